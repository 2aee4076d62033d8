const articles = Array.from({ length: 500 }, (_, id) => ({
  id,
  title: `Article ${id}`,
  body: `Text of article ${id}. `.repeat(40),
}));
let requests = 0;

export function some() {
  const start = (requests++ * 7) % 480;
  return articles.slice(start, start + 20);
}

export function one(id) {
  return articles[id];
}
