// graphile-worker: `install` makes its schema, `default` and `local-queue` run a worker.
import { Logger, run, runMigrations } from "graphile-worker";

const connectionString = process.env.BENCHMARK_DATABASE;
const slots = Number(process.env.BENCHMARK_SLOTS);
const logger = new Logger(() => () => {});
const mode = process.argv[2];
const batching = {
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};

if (mode === "install") {
  await runMigrations({ connectionString, logger });
} else {
  const { post } = await import("./post.mjs");
  const runner = await run({
    preset: {
      worker: {
        connectionString,
        concurrentJobs: slots,
        maxPoolSize: 20,
        logger,
        ...(mode === "local-queue" ? batching : {}),
      },
    },
    taskList: { post: (payload, helpers) => post(helpers.job.id, JSON.stringify(payload)) },
  });
  await runner.promise;
}
