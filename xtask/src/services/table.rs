//! The services that are tried.

use super::service::{Load, Service, Traced};

/// Says the versions of Python and of packages.
macro_rules! python_versions {
    ($names:literal) => {
        concat!(
            "\"$BUILD/python/bin/python\" -c 'import importlib.metadata as m, platform\n",
            "print(\"Python\", platform.python_version())\n",
            "for name in \"",
            $names,
            "\".split(): print(name, m.version(name))'"
        )
    };
}

/// Installs packages of PyPI in the environment.
macro_rules! pip {
    ($names:literal) => {
        concat!(
            "/usr/bin/python3 -m venv --clear \"$BUILD/python\"\n",
            "\"$BUILD/python/bin/pip\" install --quiet --disable-pip-version-check ",
            $names
        )
    };
}

/// Installs packages of npm.
macro_rules! npm {
    ($names:literal) => {
        concat!("npm install --no-audit --no-fund --no-save --loglevel error --prefix \"$BUILD\" ", $names, " >&2")
    };
}

/// Says the versions of Node and of packages.
macro_rules! node_versions {
    ($names:literal) => {
        concat!(
            "echo \"Node $(node --version | tr -d v)\"\n",
            "for name in ",
            $names,
            "; do node -p \"'$name ' + require('$BUILD/node_modules/$name/package.json').version\"; done"
        )
    };
}

/// All services, in the order in which they are tried.
pub const SERVICES: &[Service] = &[
    Service {
        name: "flask",
        what: "gunicorn with 2 workers of 4 threads; Flask with SQLite and templates",
        packages: &["python3-venv"],
        install: pip!("gunicorn==27.0.1 flask==3.1.3"),
        versions: python_versions!("gunicorn flask"),
        start: "exec \"$BUILD/python/bin/gunicorn\" --bind \"127.0.0.1:$PORT\" --workers 2 --threads 4 --chdir \"$SOURCE\" app:app",
        traced: Traced::WithChildren,
        frames: Some(("python", "flask/app.py")),
        ..HTTP
    },
    Service {
        name: "django",
        what: "gunicorn with a worker of 4 threads; Django's models on SQLite, templates, gzip",
        packages: &["python3-venv"],
        install: pip!("gunicorn==27.0.1 django==5.2.19"),
        versions: python_versions!("gunicorn django"),
        start: "exec \"$BUILD/python/bin/gunicorn\" --bind \"127.0.0.1:$PORT\" --threads 4 --preload --chdir \"$SOURCE\" shop:app",
        traced: Traced::Worker,
        frames: Some(("python", "django/shop.py")),
        ..HTTP
    },
    Service {
        name: "celery",
        what: "a Celery worker with 2 processes, Redis as broker and for results; SQLite and zlib",
        packages: &["python3-venv", "redis-server"],
        install: pip!("celery==5.7.0 redis==8.1.0 packaging==26.4"),
        versions: python_versions!("celery redis"),
        beside: "exec redis-server --port 0 --unixsocket \"$FOLDER/redis.sock\" --save '' --dir \"$FOLDER\"",
        start: "cd \"$SOURCE\"; exec \"$BUILD/python/bin/celery\" -A tasks worker --concurrency 2 --loglevel warning",
        traced: Traced::WithChildren,
        load: Load::Jobs("cd \"$SOURCE\"; exec \"$BUILD/python/bin/python\" load.py"),
        frames: Some(("python", "celery/tasks.py")),
        ..HTTP
    },
    Service {
        name: "uvicorn",
        what: "uvicorn with uvloop and httptools; FastAPI with checked models, SQLite in threads, templates",
        packages: &["python3-venv"],
        install: pip!("uvicorn==0.54.0 fastapi==0.165.0 uvloop==0.23.0 httptools==0.9.0 jinja2==3.1.6"),
        versions: python_versions!("uvicorn fastapi uvloop"),
        start: "exec \"$BUILD/python/bin/uvicorn\" --host 127.0.0.1 --port \"$PORT\" --no-access-log --app-dir \"$SOURCE\" app:app",
        frames: Some(("python", "uvicorn/app.py")),
        ..HTTP
    },
    Service {
        name: "express",
        what: "Express with Pug's templates, gzip, Buffers and digests",
        packages: &["nodejs"],
        install: npm!("express@5.3.0 compression@1.8.2 pug@3.0.4"),
        versions: node_versions!("express pug"),
        start: "exec node \"$SOURCE/server.js\"",
        frames: Some(("javascript", "express/server.js")),
        ..HTTP
    },
    Service {
        name: "next",
        what: "Next.js, built for production, that renders React on the server for each request",
        packages: &["nodejs"],
        install: npm!("next@16.4.6 react@19.3.1 react-dom@19.3.1"),
        build: "rm -rf \"$BUILD/app\" \"$BUILD/.next\"; cp -r \"$SOURCE/.\" \"$BUILD\"; cd \"$BUILD\"; exec node node_modules/next/dist/bin/next build",
        versions: node_versions!("next react"),
        start: "cd \"$BUILD\"; exec node node_modules/next/dist/bin/next start --hostname 127.0.0.1 --port \"$PORT\"",
        traced: Traced::WithChildren,
        load: Load::Http("/ /articles/7 /articles/300"),
        frames: Some(("javascript", ".next/")),
        ..HTTP
    },
    Service {
        name: "go",
        what: "net/http of Go with SQLite through cgo, and templates",
        packages: &["golang-go", "golang-github-mattn-go-sqlite3-dev", "gcc", "libc6-dev"],
        build: "cd \"$SOURCE\"; GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= exec go build -tags libsqlite3 -o \"$BUILD/articles\" main.go",
        versions: "go version | sed 's/go version go/Go /; s/ linux.*//'; echo \"go-sqlite3 $(dpkg-query --show --showformat='${Version}' golang-github-mattn-go-sqlite3-dev)\"",
        start: "exec \"$BUILD/articles\"",
        frames: Some(("go", "go/main.go")),
        ..HTTP
    },
    Service {
        name: "java",
        what: "HttpServer of the JVM with 8 threads, zlib and direct buffers",
        packages: &["openjdk-17-jdk-headless"],
        build: "exec /usr/lib/jvm/java-17-openjdk-*/bin/javac -d \"$BUILD\" \"$SOURCE/Articles.java\"",
        versions: "/usr/lib/jvm/java-17-openjdk-*/bin/java --version | sed -n '1s/ [0-9-]*$//p'",
        start: "exec /usr/lib/jvm/java-17-openjdk-*/bin/java -Xmx512m -Dsun.net.httpserver.nodelay=true -cp \"$BUILD\" Articles",
        ..HTTP
    },
];

/// What most services have.
const HTTP: Service = Service {
    name: "",
    what: "",
    packages: &[],
    install: "",
    build: "",
    versions: "",
    beside: "",
    start: "",
    traced: Traced::Itself,
    load: Load::Http("/ /api"),
    connections: 8,
    frames: None,
};
