// Does with the registry what users of the npm package consul do: client.js ADDRESS STEP...
// Prints a line for each step that went as it should; ends at the first that did not, with a trace.
"use strict";

const assert = require("node:assert/strict");
const { setTimeout: pause } = require("node:timers/promises");
const Consul = require("consul");

const steps = {
  async kv(c) {
    assert.equal(await c.kv.get("js/none"), undefined);
    assert.equal(await c.kv.set({ key: "js/a", value: "1 ü", flags: 42 }), true);
    const entry = await c.kv.get("js/a");
    assert.deepEqual([entry.Value, entry.Flags], ["1 ü", 42]);
    refused(await c.kv.set({ key: "js/a", value: "2", cas: 0 }));
    assert.equal(await c.kv.set({ key: "js/a", value: "2", cas: entry.ModifyIndex }), true);
    refused(await c.kv.set({ key: "js/a", value: "3", cas: entry.ModifyIndex }));
    assert.equal(await c.kv.get({ key: "js/a", raw: true }).then(String), "2");
    await c.kv.set("js/b/c d", "4");
    assert.deepEqual(await c.kv.keys({ key: "js/", separator: "/" }), ["js/a", "js/b/"]);
    const all = await c.kv.get({ key: "js/", recurse: true });
    assert.deepEqual(all.map((e) => e.Value), ["2", "4"]);
    refused(await c.kv.del({ key: "js/a", cas: entry.ModifyIndex }));
    assert.equal(await c.kv.del({ key: "js/", recurse: true }), true);
    assert.equal(await c.kv.get({ key: "js/", recurse: true }), undefined);
  },

  async agent(c) {
    assert.equal((await c.agent.self()).Config.Datacenter, "dc1");
    await register(c, "js-1");
    const service = (await c.agent.service.list())["js-1"];
    assert.deepEqual([service.Service, service.Tags, service.Meta], ["js-web", ["v1"], { team: "z" }]);
    for (const [verb, status] of [["pass", "passing"], ["warn", "warning"], ["fail", "critical"]]) {
      await c.agent.check[verb]({ id: "service:js-1", note: "so it is" });
      const check = (await c.agent.checks())["service:js-1"];
      assert.deepEqual([check.Status, check.Output], [status, "so it is"]);
    }
    await c.agent.check.register({ name: "js-node", ttl: "10s", notes: "by hand" });
    await c.agent.check.deregister("js-node");
    await c.agent.service.maintenance({ id: "js-1", enable: true, reason: "new disk" });
    assert.equal((await c.agent.checks())["_service_maintenance:js-1"].Notes, "new disk");
    await c.agent.service.maintenance({ id: "js-1", enable: false });
    await c.agent.service.deregister("js-1");
    await assert.rejects(c.agent.service.deregister("js-1"), { statusCode: 404 });
    assert.ok(await c.status.leader());
    assert.ok((await c.status.peers()).length);
  },

  async catalog(c) {
    await register(c, "js-2");
    await c.agent.check.pass("service:js-2");
    assert.deepEqual(await c.catalog.datacenters(), ["dc1"]);
    assert.deepEqual((await c.catalog.service.list())["js-web"], ["v1"]);
    const [row] = await c.catalog.service.nodes("js-web");
    assert.deepEqual([row.ServiceID, row.ServicePort], ["js-2", 8080]);
    assert.ok((await c.catalog.node.list()).some((n) => n.Node === row.Node));
    assert.equal((await c.catalog.node.services(row.Node)).Services["js-2"].Port, 8080);
    assert.equal((await c.health.service({ service: "js-web", passing: true, tag: "v1" })).length, 1);
    assert.equal((await c.health.checks("js-web"))[0].Status, "passing");
    assert.ok((await c.health.node(row.Node)).some((check) => check.ServiceID === "js-2"));
    assert.ok((await c.health.state("passing")).some((check) => check.ServiceID === "js-2"));
    await c.catalog.register({ node: "js-printer", address: "192.0.2.9", service: { service: "js-printer", port: 631 } });
    assert.equal((await c.catalog.service.nodes("js-printer"))[0].Node, "js-printer");
    await c.catalog.deregister("js-printer");
    assert.deepEqual(await c.catalog.service.nodes("js-printer"), []);
    await c.agent.service.deregister("js-2");
  },

  // The package's own loop of blocking queries: it must tell the beginning and the change, and nothing else.
  async watch(c) {
    await register(c, "js-3");
    await c.agent.check.pass("service:js-3");
    const options = { service: "js-web", passing: true, wait: "60s" };
    const watch = c.watch({ method: c.health.service, options, maxAttempts: 0 });
    const seen = [];
    try {
      await new Promise((resolve, reject) => {
        watch.on("error", reject);
        watch.on("change", (entries) => {
          seen.push(entries.length);
          if (seen.length === 2) resolve();
          else setTimeout(() => c.agent.check.fail("service:js-3").catch(reject), 100);
        });
        setTimeout(() => reject(new Error(`only ${seen.length} changes within 10 s`)), 10_000).unref();
      });
    } finally {
      watch.end();
    }
    assert.deepEqual(seen, [1, 0]);
    await c.agent.service.deregister("js-3");
  },

  async event(c) {
    const fired = await c.event.fire("js-deploy", "now");
    const events = await c.event.list("js-deploy");
    assert.deepEqual([events.at(-1).ID, events.at(-1).Payload], [fired.ID, "now"]);
  },

  async session(c) {
    const mine = (await c.session.create({ name: "js", ttl: "10s", behavior: "delete", lockdelay: "1s" })).ID;
    const info = await c.session.get(mine);
    assert.deepEqual([info.Name, info.TTL, info.Behavior, info.LockDelay], ["js", "10s", "delete", 1e9]);
    assert.equal((await c.session.renew(mine))[0].ID, mine);
    assert.ok((await c.session.list()).some((s) => s.ID === mine));
    assert.ok((await c.session.node(info.Node)).some((s) => s.ID === mine));
    assert.equal(await c.kv.set({ key: "js/held", value: "me", acquire: mine }), true);
    const other = (await c.session.create()).ID;
    refused(await c.kv.set({ key: "js/held", value: "you", acquire: other }));
    assert.equal((await c.kv.get("js/held")).Session, mine);
    await c.session.destroy(mine);
    assert.equal(await c.kv.get("js/held"), undefined);
    await c.session.destroy(other);
  },

  async lock(c) {
    const mine = (await c.session.create()).ID;
    const theirs = (await c.session.create()).ID;
    assert.equal(await c.kv.set({ key: "js/lock", value: "a", acquire: mine }), true);
    const index = (await c.kv.get("js/lock")).ModifyIndex;
    const waiting = c.kv.get({ key: "js/lock", index, wait: "60s" });
    await pause(100);
    assert.equal(await c.kv.set({ key: "js/lock", value: "a", release: mine }), true);
    assert.equal((await waiting).Session, undefined);
    assert.equal(await c.kv.set({ key: "js/lock", value: "b", acquire: theirs }), true);
    assert.equal((await c.kv.get("js/lock")).LockIndex, 2);
    for (const id of [mine, theirs]) await c.session.destroy(id);
    await c.kv.del("js/lock");
  },

  async txn(c) {
    const op = (Verb, Key, text = "") => ({ KV: { Verb, Key, Value: Buffer.from(text).toString("base64") } });
    const answer = await c.transaction.create([op("set", "js/txn", "1"), op("get", "js/txn")]);
    assert.equal(Buffer.from(answer.Results[1].KV.Value, "base64").toString(), "1");
    const refused = c.transaction.create([op("set", "js/txn", "2"), op("check-not-exists", "js/txn")]);
    await assert.rejects(refused, { statusCode: 409 });
    assert.equal((await c.kv.get("js/txn")).Value, "1");
    await c.kv.del("js/txn");
  },

  async filter(c) {
    await register(c, "js-4");
    const met = await c.health.service({ service: "js-web", filter: "Service.Meta.team == z" });
    assert.equal(met.length, 1);
    const none = await c.catalog.service.nodes({ service: "js-web", filter: "ServicePort != 8080" });
    assert.deepEqual(none, []);
    await c.agent.service.deregister("js-4");
  },

  async query(c) {
    await register(c, "js-5");
    await c.agent.check.pass("service:js-5");
    const { ID } = await c.query.create({ name: "js-q", service: { service: "js-web", onlypassing: true } });
    assert.equal((await c.query.execute("js-q")).Nodes.length, 1);
    await c.query.destroy(ID);
    await c.agent.service.deregister("js-5");
  },
};

// The package makes undefined of the answer false.
function refused(answer) {
  assert.equal(answer, undefined);
}

function register(c, id) {
  return c.agent.service.register({
    name: "js-web",
    id,
    address: "192.0.2.6",
    port: 8080,
    tags: ["v1"],
    meta: { team: "z" },
    check: { ttl: "30s", notes: "by hand" },
  });
}

async function main([address, ...names]) {
  const [host, port] = address.split(":");
  const client = new Consul({ host, port });
  for (const name of names) {
    await steps[name](client);
    console.log("ok", name);
  }
  client.destroy();
}

main(process.argv.slice(2)).catch((e) => {
  console.error(e);
  process.exit(1);
});
