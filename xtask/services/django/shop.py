"""Django in one file: settings, a model, a page from a template, and JSON."""

import itertools
import os

import django
from django.apps import apps
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import HttpResponse, JsonResponse
from django.template import engines
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(os.environ["FOLDER"], "django.sqlite"),
            "CONN_MAX_AGE": 600,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a service that is only measured",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()


class Article(models.Model):
    title = models.CharField(max_length=100)
    body = models.TextField()

    class Meta:
        app_label = "auth"


def fill():
    if Article._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Article)
        rows = [Article(title=f"Article {number}", body=f"Text of article {number}. " * 40) for number in range(500)]
        Article.objects.bulk_create(rows)
    # A connection is not for the workers that are forked.
    connection.close()


fill()
requests = itertools.count()
PAGE = engines["django"].from_string(
    """<!doctype html><title>Articles</title>
{% for article in articles %}<h2>{{ article.title }}</h2><p>{{ article.body }}</p>{% endfor %}"""
)


def some(count=20):
    start = next(requests) * 7 % 480
    return Article.objects.order_by("id")[start : start + count]


def index(request):
    return HttpResponse(PAGE.render({"articles": some()}, request))


def api(request):
    return JsonResponse({"articles": list(some().values()), "models": len(apps.get_models())})


urlpatterns = [path("", index), path("api", api)]
app = get_wsgi_application()
