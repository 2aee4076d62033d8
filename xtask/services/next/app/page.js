import { some } from './articles';

// Rendered for each request.
export const dynamic = 'force-dynamic';

export default async function Page() {
  return (
    <main>
      {some().map((article) => (
        <section key={article.id}>
          <h2>{article.title}</h2>
          <p>{article.body}</p>
        </section>
      ))}
    </main>
  );
}
