"""Flask: a page from a template, and JSON, both from a database."""

import itertools
import os

import articles
from flask import Flask, jsonify, render_template_string

DATABASE = os.path.join(os.environ["FOLDER"], "flask.sqlite")
PAGE = """<!doctype html><title>Articles</title>
{% for article in articles %}<h2>{{ article.title }}</h2><p>{{ article.body }}</p>{% endfor %}"""

app = Flask(__name__)
articles.fill(DATABASE)
requests = itertools.count()


@app.get("/")
def index():
    return render_template_string(PAGE, articles=articles.page(DATABASE, next(requests) * 7))


@app.get("/api")
def api():
    return jsonify(articles.page(DATABASE, next(requests) * 7))
