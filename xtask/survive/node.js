// Code that is compiled, recompiled and thrown away; buffers, promises, timers, regular expressions and worker threads.
const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const digest = (text) => crypto.createHash('sha256').update(text).digest('hex').slice(0, 16);

function work(seed) {
    const source = `let s = ${seed}; for (let i = 0; i < 20000; i++) s = (s * 31 + i * x) % 1000003; return s;`;
    const made = new Function('x', source);
    const numbers = Array.from({ length: 30 }, (_, i) => made(i));
    const packed = zlib.deflateSync(Buffer.from(JSON.stringify(numbers).repeat(50)));
    const text = zlib.inflateSync(packed).toString().replace(/(\d)(\d)/g, '$2$1');
    return digest(text);
}

if (!isMainThread) {
    parentPort.on('message', (seed) => parentPort.postMessage(work(seed)));
} else {
    const worker = new Worker(__filename);
    const ask = (seed) => new Promise((answer) => { worker.once('message', answer); worker.postMessage(seed); });
    let first;
    console.log(`ready ${process.pid}`);
    (async () => {
        while (first === undefined || !fs.existsSync(process.env.STOP)) {
            const all = [work(1), await ask(2), await new Promise((done) => setTimeout(() => done(work(3)), 1))];
            const result = digest(all.join());
            if (first !== undefined && result !== first) { console.error(`survive: ${result} is ${first}`); process.exit(1); }
            first = result;
        }
        await worker.terminate();
        console.log(`result ${first}`);
        process.exitCode = 7;
    })();
}
