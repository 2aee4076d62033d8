// An HTTP server of Go with SQLite through cgo: a page from a template, and JSON, both from a database.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"html/template"
	"log"
	"net/http"
	_ "net/http/pprof" // As most services have it; without it Go keeps no sample of its heap.
	"os"
	"strings"
	"sync/atomic"

	_ "github.com/mattn/go-sqlite3"
)

const count = 500

type article struct {
	ID    int
	Title string
	Body  string
}

var page = template.Must(template.New("page").Parse(`<!doctype html><title>Articles</title>
{{range .}}<h2>{{.Title}}</h2><p>{{.Body}}</p>{{end}}`))

func fill(database *sql.DB) error {
	if _, err := database.Exec("create table article (id integer primary key, title text, body text)"); err != nil {
		return err
	}
	for id := 0; id < count; id++ {
		body := strings.Repeat(fmt.Sprintf("Text of article %d. ", id), 40)
		if _, err := database.Exec("insert into article values (?, ?, ?)", id, fmt.Sprintf("Article %d", id), body); err != nil {
			return err
		}
	}
	return nil
}

func some(database *sql.DB, start int) ([]article, error) {
	rows, err := database.Query("select id, title, body from article where id >= ? order by id limit 20", start%480)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var articles []article
	for rows.Next() {
		var one article
		if err := rows.Scan(&one.ID, &one.Title, &one.Body); err != nil {
			return nil, err
		}
		articles = append(articles, one)
	}
	return articles, rows.Err()
}

func main() {
	database, err := sql.Open("sqlite3", "file:"+os.Getenv("FOLDER")+"/go.sqlite?_sync=0")
	if err != nil {
		log.Fatal(err)
	}
	database.SetMaxIdleConns(8)
	if err := fill(database); err != nil {
		log.Fatal(err)
	}
	var requests atomic.Int64
	answer := func(write func(http.ResponseWriter, []article) error) http.HandlerFunc {
		return func(response http.ResponseWriter, request *http.Request) {
			articles, err := some(database, int(requests.Add(7)))
			if err == nil {
				err = write(response, articles)
			}
			if err != nil {
				http.Error(response, err.Error(), http.StatusInternalServerError)
			}
		}
	}
	http.Handle("/", answer(func(response http.ResponseWriter, articles []article) error {
		return page.Execute(response, articles)
	}))
	http.Handle("/api", answer(func(response http.ResponseWriter, articles []article) error {
		return json.NewEncoder(response).Encode(articles)
	}))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
