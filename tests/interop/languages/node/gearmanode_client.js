// A client on gearmanode: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py.
'use strict';

const fs = require('fs');
const winston = require('winston');

// gearmanode logs through winston, which warns on stderr about every line of a logger that has no output.
winston.configure({silent: true});
for (const name of ['Client', 'Worker', 'JobServer', 'Job', 'LBStrategy', 'protocol']) {
    winston.loggers.add(name, {silent: true});
}

const gearmanode = require('gearmanode');

const [port, action, name, priority, unique] = process.argv.slice(2);
const payload = fs.readFileSync(0);
const client = gearmanode.client({host: '127.0.0.1', port: Number(port)});
const say = (...words) => process.stderr.write(words.join(' ') + '\n');
let waiting = 1;
let failed = 0;

function end(code) {
    failed |= code;
    waiting -= 1;
    if (waiting === 0) {
        client.close();
        process.exitCode = failed;
    }
}

function submit(part, background) {
    const options = {background, priority: (priority || 'normal').toUpperCase()};
    if (unique) options.unique = unique;
    const job = client.submitJob(name, part, options);
    job.on('workData', data => process.stdout.write(data));
    job.on('warning', data => say('warning', data));
    job.on('complete', () => { process.stdout.write(job.response); end(0); });
    job.on('failed', () => { say('fail'); end(1); });
    job.on('exception', text => { say('exception', text); end(1); });
    job.on('status', status => {
        if (!background) return say('status', `${status.percent_done_num}/${status.percent_done_den}`);
        say('known', Number(status.known), 'running', Number(status.running));
        end(0);
    });
    job.on('created', () => { if (background) { console.log(job.handle); job.getStatus(); } });
}

if (action === 'run') {
    submit(payload, false);
} else if (action === 'exceptions') {
    client.jobServers[0].once('option', () => submit(payload, false));
    client.jobServers[0].setOption('exceptions');
} else if (action === 'parallel') {
    const lines = payload.toString().match(/[^\n]*\n/g);
    waiting = lines.length;
    lines.forEach(line => submit(line, false));
} else if (action === 'background') {
    submit(payload, true);
} else if (action === 'echo') {
    client.jobServers[0].once('echo', data => {
        console.log(String(data) === payload.toString() ? 'echoed' : 'no');
        end(0);
    });
    client.jobServers[0].echo(payload.toString()); // it takes text only
} else {
    process.exit(64);
}
