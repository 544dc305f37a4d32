// The request that every worker here makes: connections kept alive, as many as slots.
import { Pool } from "undici";

const receiver = new URL(process.env.BENCHMARK_RECEIVER);
const pool = new Pool(receiver.origin, { connections: Number(process.env.BENCHMARK_SLOTS), pipelining: 1 });

export async function post(key, body) {
  const headers = { "content-type": "application/json", "idempotency-key": String(key) };
  const answer = await pool.request({ path: receiver.pathname, method: "POST", headers, body });
  await answer.body.dump();
  if (answer.statusCode !== 200) throw new Error(`answered ${answer.statusCode}`);
}
