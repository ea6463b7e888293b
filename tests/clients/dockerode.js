// What a deployment panel does with dockerode: a service by its own object, updated through
// {...spec, version}, which dockerode puts into query and body alike; an exec; a log; an event.
"use strict";
const assert = require("node:assert");
const Docker = require("dockerode");

const [socketPath, web, next] = process.argv.slice(2);
const docker = new Docker({ socketPath });
const LIMIT_MS = 20000;

async function until(what) {
  const deadline = Date.now() + LIMIT_MS;
  for (;;) {
    const said = await what();
    if (said) return said;
    assert(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

async function running(name, image) {
  const filters = { service: [name], "desired-state": ["running"] };
  const tasks = await docker.listTasks({ filters: JSON.stringify(filters) });
  return tasks.filter((t) => t.Status.State === "running" && t.Spec.ContainerSpec.Image === image);
}

async function collected(stream) {
  const parts = [];
  const sink = new (require("node:stream").PassThrough)();
  sink.on("data", (part) => parts.push(part));
  docker.modem.demuxStream(stream, sink, sink);
  await new Promise((done) => stream.on("end", done));
  return Buffer.concat(parts).toString();
}

async function main() {
  const seen = {};
  assert.equal((await docker.ping()).toString(), "OK");
  seen.nodes = (await docker.listNodes()).length;
  const events = await docker.getEvents({ filters: JSON.stringify({ type: ["service"] }) });
  const heard = [];
  events.on("data", (line) => heard.push(...line.toString().trim().split("\n").map(JSON.parse)));

  const network = await docker.createNetwork({ Name: "ode", Driver: "overlay", Attachable: true });
  const secret = await docker.createSecret({
    Name: "word", Data: Buffer.from("topsecret").toString("base64"),
  });
  const spec = {
    Name: "ode",
    Labels: { panel: "1" },
    TaskTemplate: {
      ContainerSpec: {
        Image: web,
        StopGracePeriod: 1e9,
        HealthCheck: { Test: ["CMD", "true"], Interval: 5e8, StartPeriod: 0 },
        Secrets: [{
          SecretID: secret.id, SecretName: "word",
          File: { Name: "word", UID: "0", GID: "0", Mode: 0o444 },
        }],
      },
      Networks: [{ Target: "ode" }],
      RestartPolicy: { Condition: "on-failure" },
    },
    Mode: { Replicated: { Replicas: 1 } },
    UpdateConfig: { Parallelism: 3, Order: "start-first", Monitor: 1e8 },
    EndpointSpec: { Ports: [{ Protocol: "tcp", PublishedPort: 8092, TargetPort: 80 }] },
  };
  await docker.createService(spec);
  await until(async () => (await running("ode", web)).length === 1);
  const service = docker.getService("ode");
  let now = await service.inspect();
  assert.equal(now.Spec.TaskTemplate.ForceUpdate, 0, "a panel adds one to it");
  await service.update({
    ...now.Spec, version: now.Version.Index, Mode: { Replicated: { Replicas: 3 } },
  });
  await until(async () => (await running("ode", web)).length === 3);
  now = await service.inspect();
  const task = now.Spec.TaskTemplate;
  await service.update({
    version: parseInt(now.Version.Index),
    ...now.Spec,
    TaskTemplate: {
      ...task,
      ContainerSpec: { ...task.ContainerSpec, Image: next },
      ForceUpdate: task.ForceUpdate + 1,
    },
  });
  await until(async () => (await running("ode", next)).length === 3);
  await until(async () => (await service.inspect()).UpdateStatus?.State === "completed");
  now = await service.inspect();
  seen.replicas = now.Spec.Mode.Replicated.Replicas;
  seen.image = now.Spec.TaskTemplate.ContainerSpec.Image;
  seen.force = now.Spec.TaskTemplate.ForceUpdate;
  const listed = await docker.listServices({ filters: { label: ["panel"] } });
  assert.deepEqual(listed.map((each) => each.ID), [now.ID]);

  const filters = { label: ["com.docker.swarm.service.name=ode"], status: ["running"] };
  const here = await docker.listContainers({ filters: JSON.stringify(filters) });
  const container = docker.getContainer(here[0].Id);
  const exec = await container.exec({
    Cmd: ["cat", "/run/secrets/word"], AttachStdout: true, AttachStderr: true,
  });
  seen.said = await collected(await exec.start({ hijack: true, stdin: false }));
  assert((await container.stats({ stream: false })).memory_stats.usage > 0);
  assert.notEqual(await service.logs({ stdout: 1, stderr: 1, tail: 10 }), undefined);
  await until(() => heard.some((each) => each.Action === "update"));
  assert(heard.some((each) => each.Action === "create" && each.Actor.Attributes.name === "ode"));
  events.destroy();

  await service.remove();
  seen.gone = await service.inspect().then(() => 200, (error) => error.statusCode);
  await secret.remove();
  await until(() => network.remove().then(() => true, (error) => {
    assert.match(error.message, /in use|active endpoints/);
    return false;
  }));
  console.log(JSON.stringify(seen));
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
