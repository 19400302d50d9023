// A client on node-gearman: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py.
'use strict';

const fs = require('fs');
const Gearman = require('node-gearman');

const [port, action, name, priority, unique] = process.argv.slice(2);
const payload = fs.readFileSync(0);
const gearman = new Gearman('127.0.0.1', Number(port));
let waiting = 1;
let failed = 0;

function end(code) {
    failed |= code;
    waiting -= 1;
    if (waiting === 0) {
        gearman.close();
        process.exitCode = failed;
    }
}

function submit(part) {
    const job = gearman.submitJob(name, part, unique, {priority});
    job.on('data', data => process.stdout.write(data));
    job.on('end', () => end(0));
    job.on('error', () => { process.stderr.write('fail\n'); end(1); });
}

if (action === 'run') {
    submit(payload);
} else if (action === 'parallel') {
    const lines = payload.toString().match(/[^\n]*\n/g);
    waiting = lines.length;
    lines.forEach(submit);
} else if (action === 'background') { // no word of the handle: it drops that itself
    gearman.submitJob(name, payload, unique, {priority, background: true});
    gearman.sendCommand('ECHO_REQ', '');
    gearman.receive_ECHO_RES = () => end(0);
} else {
    process.exit(64);
}
