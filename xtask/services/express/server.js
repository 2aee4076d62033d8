// Express: a page from a template, packed, and JSON with a digest of a Buffer.
'use strict';
const crypto = require('node:crypto');
// The packages are not beside this file.
const packages = process.env.BUILD;
const load = (name) => require(require.resolve(name, { paths: [packages] }));
const express = load('express');
const compression = load('compression');
const pug = load('pug');

const articles = Array.from({ length: 500 }, (_, id) => ({ id, title: `Article ${id}`, body: `Text of article ${id}. `.repeat(40) }));
const page = pug.compile('doctype html\ntitle Articles\neach article in articles\n  h2= article.title\n  p= article.body');
let requests = 0;
const some = () => {
  const start = (requests++ * 7) % 480;
  return articles.slice(start, start + 20);
};

const app = express();
app.use(compression());
app.get('/', (request, response) => response.send(page({ articles: some() })));
app.get('/api', (request, response) => {
  const body = Buffer.alloc(64 * 1024, JSON.stringify(some()));
  response.json({ articles: some(), digest: crypto.createHash('sha256').update(body).digest('hex') });
});
app.listen(Number(process.env.PORT), '127.0.0.1');
