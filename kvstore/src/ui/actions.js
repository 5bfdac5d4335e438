// What the buttons do: maintenance, draining, releases. An instance or a node is taken out of use by a critical check
// beside its others. What the agent here has registered is changed through it, everything else in the catalog.

import { change, decoded, keyPath, path, read } from "./api.js";
import { NODE_MAINTENANCE } from "./health.js";
import { agent } from "./registry.js";

const put = (where, body) => change("PUT", where, body === undefined ? undefined : JSON.stringify(body));

const isOwnNode = async (node) => (await agent()).NodeName.toLowerCase() === node.toLowerCase();

const isOwn = async (node, id) => (await isOwnNode(node)) && id in (await read("/v1/agent/services"));

const switched = (on, reason) => `enable=${on}${on ? `&reason=${encodeURIComponent(reason)}` : ""}`;

// Puts a check into the catalog, or takes it away.
function inCatalog(node, check, on) {
  const Node = node;
  if (!on) return put("/v1/catalog/deregister", { Node, CheckID: check.CheckID });
  return put("/v1/catalog/register", { Node, SkipNodeUpdate: true, Check: { Node, Status: "critical", ...check } });
}

export async function maintainNode(node, on, reason) {
  if (await isOwnNode(node)) return put(`/v1/agent/maintenance?${switched(on, reason)}`);
  return inCatalog(node, { CheckID: NODE_MAINTENANCE, Name: "Node Maintenance Mode", Notes: reason, Type: "maintenance" }, on);
}

export async function maintain(node, id, on, reason) {
  if (await isOwn(node, id)) return put(`${path("/v1/agent/service/maintenance", id)}?${switched(on, reason)}`);
  const CheckID = `_service_maintenance:${id}`;
  return inCatalog(node, { CheckID, ServiceID: id, Name: "Service Maintenance Mode", Notes: reason, Type: "maintenance" }, on);
}

// The check that keeps an instance from new work because somebody asked for that. A registrar leaves the one that names
// its container alone.
export function drainingCheck({ ID, Meta }) {
  const container = Meta?.["registrar-container"];
  return container ? `_draining:${ID}:${container}` : `_draining:${ID}`;
}

export async function drain(node, service, on) {
  const [CheckID, Name, Notes] = [drainingCheck(service), "Draining", "Somebody asked for it in the web UI."];
  if (!(await isOwn(node, service.ID))) return inCatalog(node, { CheckID, Name, Notes, ServiceID: service.ID }, on);
  if (!on) return put(path("/v1/agent/check/deregister", CheckID));
  const check = { ID: CheckID, Name, Notes, ServiceID: service.ID, Status: "critical", TTL: "24h" };
  return put("/v1/agent/check/register", check);
}

// What was live when, newest first, is kept beside what is; as many entries as `kvstore release` keeps.
const REMEMBERED = 100;
const ATTEMPTS = 10;

const historyPath = (service) => keyPath(`release-history/${service.toLowerCase()}`);

export async function releases(service) {
  const entry = (await read(historyPath(service)))?.[0];
  return { index: entry?.ModifyIndex ?? 0, all: entry ? JSON.parse(decoded(entry.Value)) : [] };
}

// Lets a version be live; null: none.
export async function release(service, version) {
  const one = { Version: version, At: new Date().toISOString().replace(/\.\d+Z$/, "Z"), By: "web UI" };
  let isKept = false;
  for (let n = 0; n < ATTEMPTS && !isKept; n++) {
    const { index, all } = await releases(service);
    const history = JSON.stringify([one, ...all].slice(0, REMEMBERED));
    isKept = (await change("PUT", `${historyPath(service)}?cas=${index}`, history)) === "true";
  }
  if (!isKept) throw new Error(`The history of ${service} is being written by others all the time; try again`);
  const key = keyPath(`release/${service.toLowerCase()}`);
  await (version === null ? change("DELETE", key) : change("PUT", key, version));
}
