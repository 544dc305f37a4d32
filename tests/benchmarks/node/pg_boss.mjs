// pg-boss: `install` makes its schema and a queue, `run` runs a worker.
import PgBoss from "pg-boss";

const BATCH_SIZE = Number(process.env.BENCHMARK_BATCH ?? 1000);
const boss = new PgBoss({ connectionString: process.env.BENCHMARK_DATABASE });
boss.on("error", (error) => console.error(error));
await boss.start();

if (process.argv[2] === "install") {
  await boss.createQueue("post");
  await boss.stop();
} else {
  const { post } = await import("./post.mjs");
  const options = { batchSize: BATCH_SIZE, pollingIntervalSeconds: 0.5 };
  const worker = await boss.work("post", options, async (jobs) => {
    await Promise.all(jobs.map((job) => post(job.id, JSON.stringify(job.data))));
    if (jobs.length === BATCH_SIZE) boss.notifyWorker(worker); // there is more: do not wait for the next poll
  });
  process.on("SIGTERM", async () => {
    await boss.stop();
    process.exit(0);
  });
}
