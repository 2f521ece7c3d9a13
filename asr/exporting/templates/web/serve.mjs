// `npm start`: serves this folder to this machine, with the headers that let the browser compute in several threads.
// Any other web server does too; without the headers one thread computes.

import {createReadStream} from 'node:fs';
import {stat} from 'node:fs/promises';
import {createServer} from 'node:http';
import {extname, join, normalize} from 'node:path';
import {fileURLToPath} from 'node:url';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));
const PORT = Number(process.argv[2] ?? process.env.PORT ?? 8080);
const KINDS = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cache-Control': 'no-cache', // a newer export is seen at once
  'X-Content-Type-Options': 'nosniff',
};

const server = createServer(async (request, response) => {
  try {
    const {pathname} = new URL(request.url, 'http://localhost');
    const name = decodeURIComponent(pathname);
    const path = normalize(join(FOLDER, name, name.endsWith('/') ? 'index.html' : ''));
    const found = path.startsWith(FOLDER) && !/[/\\]\./.test(name) && await stat(path); // nothing hidden
    if (!found || !found.isFile()) throw new Error('no such file');
    const kind = KINDS[extname(path)] ?? 'application/octet-stream';
    response.writeHead(200, {...HEADERS, 'Content-Type': kind, 'Content-Length': found.size});
    if (request.method === 'HEAD') response.end();
    else createReadStream(path).on('error', () => response.destroy()).pipe(response);
  } catch {
    response.writeHead(404, HEADERS).end('not found\n');
  }
});

server.listen(PORT, '127.0.0.1', () => {
  process.stdout.write(`http://127.0.0.1:${server.address().port}/\n`);
});
