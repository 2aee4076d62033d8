import { notFound } from 'next/navigation';
import { one } from '../../articles';

export const dynamic = 'force-dynamic';

export default async function Page({ params }) {
  const { id } = await params;
  const article = one(Number(id)) ?? notFound();
  return (
    <main>
      <h1>{article.title}</h1>
      <p>{article.body}</p>
    </main>
  );
}
