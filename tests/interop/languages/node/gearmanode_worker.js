// A worker on gearmanode: PORT PREFIX. The functions that it offers are listed in ../packages.py.
'use strict';

const fs = require('fs');
const winston = require('winston');

// gearmanode logs through winston, which warns on stderr about every line of a logger that has no output.
winston.configure({silent: true});
for (const name of ['Client', 'Worker', 'JobServer', 'Job', 'LBStrategy', 'protocol']) {
    winston.loggers.add(name, {silent: true});
}

const gearmanode = require('gearmanode');

const [port, prefix] = process.argv.slice(2);
const worker = gearmanode.worker({host: '127.0.0.1', port: Number(port), withUnique: true});

// workComplete() makes a string of what it is given, sendWorkData() leaves it as it is.
function echo(job) {
    job.sendWorkData(job.payload);
    job.workComplete();
}

const offers = {
    echo: echo,
    stream: job => { job.sendWorkData('one '); job.sendWorkData('two '); job.workComplete('three'); },
    warn: job => { job.reportWarning('careful'); job.workComplete(job.payload); },
    status: job => { job.reportStatus(1, 4); job.reportStatus(3, 4); job.workComplete(job.payload); },
    fail: job => job.reportError(),
    raise: job => job.reportException('it broke'),
    unique: job => job.workComplete(job.unique),
    late: job => {
        const look = () => fs.existsSync(job.payload.toString()) ? job.workComplete(job.payload) : setTimeout(look, 5);
        look();
    },
};
worker.setWorkerId(prefix);
for (const offer of Object.keys(offers)) {
    worker.addFunction(`${prefix}-${offer}`, offers[offer], offer === 'late' ? {timeout: 1} : {});
}
