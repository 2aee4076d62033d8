"""A shelf of articles in a database file: what the services in Python serve."""

import sqlite3

ARTICLES = 500


def fill(path):
    """Makes the database unless it is there."""
    with sqlite3.connect(path) as database:
        database.execute("create table if not exists article (id integer primary key, title text, body text)")
        if database.execute("select count(*) from article").fetchone()[0] == 0:
            rows = [(number, f"Article {number}", f"Text of article {number}. " * 40) for number in range(ARTICLES)]
            database.executemany("insert into article values (?, ?, ?)", rows)
    database.close()


def page(path, start, count=20):
    """Some articles from the database, as dictionaries."""
    database = sqlite3.connect(path)
    try:
        rows = database.execute(
            "select id, title, body from article where id >= ? order by id limit ?", (start % ARTICLES, count)
        )
        return [{"id": number, "title": title, "body": body} for number, title, body in rows]
    finally:
        database.close()
