// A client on abraxas: PORT ACTION NAME PRIORITY UNIQUE WHEN. What each action prints is in ../packages.py.
'use strict';

const fs = require('fs');
const {Client} = require('abraxas');

const [port, action, name, priority, unique, when] = process.argv.slice(2);
const payload = fs.readFileSync(0);
const say = (...words) => process.stderr.write(words.join(' ') + '\n');
const options = () => ({priority: priority || null, uniqueid: unique || null});

function run(part) {
    return new Promise(resolve => {
        const task = client.submitJob(name, options(), part);
        task.on('warn', text => say('warning', text));
        task.on('status', share => say('status', share));
        task.on('error', error => {
            say(error.name === 'JobException' ? 'exception ' + error.message : 'fail');
            resolve(1);
        });
        task.on('data', data => process.stdout.write(data));
        task.on('end', () => resolve(0));
    });
}

function print(task) {
    return task.then(text => { console.log(String(text)); return 0; });
}

function show(status) {
    console.log(status.known, status.running, status.complete);
    return 0;
}

const actions = {
    run: () => run(payload),
    exceptions: () => run(payload), // it always asks for them
    parallel: () => Promise.all(payload.toString().match(/[^\n]*\n/g).map(run)).then(codes => Math.max(...codes)),
    background: () => print(client.submitJobBg(name, options(), payload)),
    epoch: () => print(client.submitJobAt(name, Number(when), options(), payload)),
    query: () => new Promise(resolve => client.getStatus(name, (error, status) => resolve(show(status)))),
    echo: () => client.echo(payload).then(data => { console.log(payload.equals(data) ? 'echoed' : 'no'); return 0; }),
    admin: () => new Promise(resolve => client.status((error, status) => {
        const row = status[name];
        console.log(row.inqueue, row.running, row.workers); // what it calls `in the queue` has the running ones, too
        resolve(0);
    })),
};

if (!actions[action]) process.exit(64);
const client = Client.connect({servers: [`127.0.0.1:${port}`]}, error => {
    if (error) throw error;
    const awake = setInterval(() => {}, 1000); // it lets the process end while it waits for an answer
    actions[action]().then(code => {
        process.exitCode = code;
        clearInterval(awake);
        client.disconnect();
    });
});
