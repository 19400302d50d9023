// A worker on abraxas: PORT PREFIX. The functions that it offers are listed in ../packages.py.
'use strict';

const fs = require('fs');
const {Client} = require('abraxas');

const [port, prefix] = process.argv.slice(2);
const client = Client.connect({servers: [`127.0.0.1:${port}`]});
const echo = task => task.payload;
const offers = {
    echo: echo,
    'größe': echo,
    stream: task => { task.write('one '); task.write('two '); task.end('three'); }, // one piece, it says so itself
    warn: task => { task.warn('careful'); return task.payload; },
    status: task => { task.status(0.25); task.status(0.75); return task.payload; },
    raise: () => { throw new Error('it broke'); },
    unique: task => task.uniqueid,
    late: task => new Promise(resolve => {
        const look = () => fs.existsSync(task.payload.toString()) ? resolve(task.payload) : setTimeout(look, 5);
        look();
    }),
};
client.setClientId(prefix);
for (const offer of Object.keys(offers)) {
    client.registerWorker(`${prefix}-${offer}`, offer === 'late' ? {timeout: 1} : {}, offers[offer]);
}
