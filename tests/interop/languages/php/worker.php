<?php
// A worker on PHP's extension: PORT PREFIX. The functions that it offers are listed in ../packages.py.

[, $port, $prefix] = $argv;
$worker = new GearmanWorker();
$worker->addServer('127.0.0.1', (int) $port);
$worker->setId($prefix);
$echo = fn (GearmanJob $job) => $job->workload();
$worker->addFunction("$prefix-echo", $echo);
$worker->addFunction("$prefix-größe", $echo);
$worker->addFunction("$prefix-stream", function (GearmanJob $job) {
    $job->sendData('one ');
    $job->sendData('two ');
    return 'three';
});
$worker->addFunction("$prefix-warn", function (GearmanJob $job) {
    $job->sendWarning('careful');
    return $job->workload();
});
$worker->addFunction("$prefix-status", function (GearmanJob $job) {
    $job->sendStatus(1, 4);
    $job->sendStatus(3, 4);
    return $job->workload();
});
$worker->addFunction("$prefix-fail", function (GearmanJob $job) {
    $job->sendFail();
});
$worker->addFunction("$prefix-raise", function (GearmanJob $job) {
    $job->sendException('it broke');
});
$worker->addFunction("$prefix-unique", fn (GearmanJob $job) => $job->unique());
$worker->addFunction("$prefix-late", function (GearmanJob $job) {
    while (!file_exists($job->workload())) {
        usleep(5000);
        clearstatcache();
    }
    return $job->workload();
}, null, 1);
while (@$worker->work() || in_array($worker->returnCode(), [GEARMAN_WORK_FAIL, GEARMAN_WORK_EXCEPTION], true)) {
}
fwrite(STDERR, "error {$worker->error()}\n");
exit(2);
