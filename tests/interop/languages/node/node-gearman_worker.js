// A worker on node-gearman: PORT PREFIX. The functions that it offers are listed in ../packages.py.
'use strict';

const Gearman = require('node-gearman');

const [port, prefix] = process.argv.slice(2);
const gearman = new Gearman('127.0.0.1', Number(port));
const echo = (payload, worker) => worker.end(payload);
const offers = {
    echo: echo,
    'größe': echo,
    stream: (payload, worker) => { worker.write('one '); worker.write('two '); worker.end('three'); },
    fail: (payload, worker) => worker.error(),
};
for (const offer of Object.keys(offers)) gearman.registerWorker(`${prefix}-${offer}`, offers[offer]);
