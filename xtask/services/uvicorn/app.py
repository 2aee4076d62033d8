"""FastAPI on uvicorn: models that are checked, a page from a template, work in a thread, and JSON."""

import asyncio
import itertools
import os

import articles
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from pydantic import BaseModel

DATABASE = os.path.join(os.environ["FOLDER"], "uvicorn.sqlite")
PAGE = Environment(autoescape=True).from_string(
    """<!doctype html><title>Articles</title>
{% for article in articles %}<h2>{{ article.title }}</h2><p>{{ article.body }}</p>{% endfor %}"""
)


class Article(BaseModel):
    id: int
    title: str
    body: str


app = FastAPI()
articles.fill(DATABASE)
requests = itertools.count()


@app.get("/", response_class=HTMLResponse)
async def index():
    rows = await asyncio.to_thread(articles.page, DATABASE, next(requests) * 7)
    return PAGE.render(articles=rows)


@app.get("/api")
async def api() -> list[Article]:
    return [Article(**row) for row in articles.page(DATABASE, next(requests) * 7)]
