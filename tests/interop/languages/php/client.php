<?php
// A client on PHP's extension: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py.

[, $port, $action, $name, $priority, $unique, $when] = $argv;
$payload = stream_get_contents(STDIN);
$client = new GearmanClient();
$client->addServer('127.0.0.1', (int) $port);
$client->setTimeout(60000);
$failed = 0;

$client->setDataCallback(function (GearmanTask $task) { echo $task->data(); });
$client->setCompleteCallback(function (GearmanTask $task) { echo $task->data(); });
$client->setWarningCallback(function (GearmanTask $task) { fwrite(STDERR, "warning {$task->data()}\n"); });
$client->setExceptionCallback(function (GearmanTask $task) use (&$failed) {
    fwrite(STDERR, "exception {$task->data()}\n");
    $failed = 1;
});
$client->setFailCallback(function (GearmanTask $task) use (&$failed) {
    fwrite(STDERR, "fail\n");
    $failed = 1;
});
$status = function (GearmanTask $task) {
    fwrite(STDERR, "status {$task->taskNumerator()}/{$task->taskDenominator()}\n");
};
$client->setStatusCallback($status);

$add = 'addTask' . ucfirst($priority);
switch ($action) {
    case 'exceptions':
        $client->enableExceptionHandler() or exit(2);
        // and then as
    case 'run':
        $client->$add($name, $payload, null, $unique ?: null);
        $client->runTasks();
        break;
    case 'parallel':
        foreach (preg_split('/(?<=\n)/', $payload, -1, PREG_SPLIT_NO_EMPTY) as $line) {
            $client->$add($name, $line);
        }
        $client->runTasks();
        break;
    case 'background':
        $do = 'do' . ucfirst($priority) . 'Background';
        echo $client->$do($name, $payload, $unique ?: null), "\n";
        break;
    case 'do': // the older way: it has to be asked again until the job has ended
        $do = 'do' . ucfirst($priority ?: 'normal');
        do {
            $part = $client->$do($name, $payload, $unique ?: null);
            $code = $client->returnCode();
            if ($code === GEARMAN_WORK_STATUS) {
                fwrite(STDERR, 'status ' . implode('/', $client->doStatus()) . "\n");
            } elseif ($code === GEARMAN_WORK_WARNING) {
                fwrite(STDERR, "warning $part\n");
            } else {
                echo $part;
            }
        } while (in_array($code, [GEARMAN_WORK_DATA, GEARMAN_WORK_STATUS, GEARMAN_WORK_WARNING], true));
        $failed = $code === GEARMAN_SUCCESS ? 0 : 1;
        break;
    case 'query':
        echo implode(' ', array_map('intval', $client->jobStatus($name))), "\n";
        break;
    case 'query-unique':
        echo implode(' ', array_map('intval', $client->jobStatusByUniqueKey($unique))), "\n";
        break;
    case 'echo':
        echo $client->ping($payload) ? "echoed\n" : "no\n";
        break;
    default:
        exit(64);
}
exit($failed);
