// Command client does with the registry what users of HashiCorp's own Go module do: client ADDRESS STEP...
// Prints a line for each step that went as it should; ends with 1, and why, at the first that did not.
package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
)

var steps = map[string]func(*consul.Client){
	"kv": kv, "agent": agent, "catalog": catalog, "watch": watch, "event": event,
	"session": session, "lock": lock, "txn": txn, "filter": filter, "query": query,
	"acl": acl,
}

func main() {
	address = os.Args[1]
	client := with("")
	for _, name := range os.Args[2:] {
		current = name
		steps[name](client)
		fmt.Println("ok", name)
	}
}

// Where the registry is, and the step that is under way.
var address, current string

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", current, fmt.Sprintf(format, args...))
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		// The panic's trace names the line.
		panic(fmt.Sprintf("%s: %v", current, err))
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// The module gives most answers as value, metadata, error.
func first[T, M any](value T, _ M, err error) T {
	check(err)
	return value
}

func same(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Sprintf("%s: %s is %#v, not %#v", current, what, got, want))
	}
}

func kv(c *consul.Client) {
	kv := c.KV()
	missing, meta, err := kv.Get("go/none", nil)
	check(err)
	same("a missing key", missing, (*consul.KVPair)(nil))
	same("a known leader", meta.KnownLeader, true)
	flags := uint64(0xe0f69a2baa414de0) // a semaphore's, which no float holds
	check(second(kv.Put(&consul.KVPair{Key: "go/a", Value: []byte("1\x00ü"), Flags: flags}, nil)))
	pair, meta, err := kv.Get("go/a", nil)
	check(err)
	same("the value", string(pair.Value), "1\x00ü")
	same("the flags", pair.Flags, flags)
	same("the index", meta.LastIndex, pair.ModifyIndex)

	same("create only, of what is there", first(kv.CAS(&consul.KVPair{Key: "go/a"}, nil)), false)
	stale := *pair
	pair.Value = []byte("2")
	same("a swap in time", first(kv.CAS(pair, nil)), true)
	same("a swap too late", first(kv.CAS(&stale, nil)), false)
	check(second(kv.Put(&consul.KVPair{Key: "go/b/c d?&%#+é", Value: []byte("3")}, nil)))
	same("odd key", string(first(kv.Get("go/b/c d?&%#+é", nil)).Value), "3")
	same("keys", first(kv.Keys("go/", "/", nil)), []string{"go/a", "go/b/"})
	same("pairs", len(first(kv.List("go/", nil))), 2)
	same("delete too late", first(kv.DeleteCAS(&stale, nil)), false)
	same("delete in time", first(kv.DeleteCAS(first(kv.Get("go/a", nil)), nil)), true)
	check(second(kv.DeleteTree("go/", nil)))
	same("pairs after all were deleted", len(first(kv.List("go/", nil))), 0)
}

// second is the error of a call whose value does not matter.
func second[T any](_ T, err error) error { return err }

func register(c *consul.Client, id string) {
	check(c.Agent().ServiceRegister(&consul.AgentServiceRegistration{
		ID: id, Name: "go-web", Tags: []string{"v1", "a"}, Port: 8080, Address: "192.0.2.7",
		Meta: map[string]string{"team": "x"}, Weights: &consul.AgentWeights{Passing: 10, Warning: 1},
		TaggedAddresses: map[string]consul.ServiceAddress{"wan": {Address: "198.51.100.7", Port: 80}},
		Check:           &consul.AgentServiceCheck{CheckID: "ttl:" + id, TTL: "30s", Notes: "by hand"},
	}))
}

func agent(c *consul.Client) {
	a := c.Agent()
	node := must(a.NodeName())
	same("our datacenter", must(a.Self())["Config"]["Datacenter"], any("dc1"))
	register(c, "go-1")
	check(a.UpdateTTL("ttl:go-1", "fine", consul.HealthPassing))
	same("status", must(a.Checks())["ttl:go-1"].Status, consul.HealthPassing)
	check(a.FailTTL("ttl:go-1", "broken"))
	found := must(a.Checks())["ttl:go-1"]
	same("check", []string{found.Node, found.Status, found.Output, found.Notes, found.Type},
		[]string{node, consul.HealthCritical, "broken", "by hand", "ttl"})
	check(a.PassTTL("ttl:go-1", "well again"))

	service := first(a.Service("go-1", nil))
	same("weights", service.Weights, consul.AgentWeights{Passing: 10, Warning: 1})
	same("wan address", service.TaggedAddresses["wan"].Port, 80)
	same("services", must(a.Services())["go-1"].Meta, map[string]string{"team": "x"})
	check(a.EnableServiceMaintenance("go-1", "new disk"))
	status, info, err := a.AgentHealthServiceByID("go-1")
	check(err)
	want := []string{consul.HealthCritical, "go-1", consul.HealthMaint} // the status is read off the HTTP code
	same("in maintenance", []string{status, info.Service.ID, info.AggregatedStatus}, want)
	check(a.DisableServiceMaintenance("go-1"))
	status, _, err = a.AgentHealthServiceByName("go-web")
	check(err)
	same("out of maintenance", status, consul.HealthPassing)
	check(a.ServiceDeregister("go-1"))
	if err := a.ServiceDeregister("go-1"); err == nil || !strings.Contains(err.Error(), "404") {
		fail("a second deregistration gives %v", err)
	}
	if len(must(c.Status().Leader())) == 0 || len(must(c.Status().Peers())) == 0 {
		fail("nobody leads")
	}
}

func catalog(c *consul.Client) {
	register(c, "go-2")
	defer func() { check(c.Agent().ServiceDeregister("go-2")) }()
	check(c.Agent().PassTTL("ttl:go-2", ""))
	same("datacenters", must(c.Catalog().Datacenters()), []string{"dc1"})
	same("tags", len(first(c.Catalog().Services(nil))["go-web"]), 2)
	row := first(c.Catalog().Service("go-web", "v1", nil))[0]
	same("row", []any{row.ServiceID, row.ServiceAddress, row.ServicePort}, []any{"go-2", "192.0.2.7", 8080})
	same("on the node", first(c.Catalog().Node(row.Node, nil)).Services["go-2"].Port, 8080)
	same("nobody", first(c.Catalog().Node("none", nil)), (*consul.CatalogNode)(nil))

	entry := first(c.Health().Service("go-web", "", true, nil))[0]
	same("passing", entry.Checks.AggregatedStatus(), consul.HealthPassing)
	same("checks", first(c.Health().Checks("go-web", nil))[0].ServiceID, "go-2")
	same("other tag", len(first(c.Health().Service("go-web", "v2", true, nil))), 0)

	external := &consul.CatalogRegistration{
		Node: "go-printer", Address: "192.0.2.9", NodeMeta: map[string]string{"external": "true"},
		Service: &consul.AgentService{ID: "p", Service: "go-printer", Port: 631},
		Checks: consul.HealthChecks{{
			Node: "go-printer", CheckID: "up", Name: "up", Status: consul.HealthWarning, ServiceID: "p",
			Definition: consul.HealthCheckDefinition{HTTP: "http://192.0.2.9", IntervalDuration: 30 * time.Second},
		}},
	}
	check(second(c.Catalog().Register(external, nil)))
	ours := &consul.QueryOptions{NodeMeta: map[string]string{"external": "true"}}
	same("external nodes", first(c.Catalog().Nodes(ours))[0].Node, "go-printer")
	states := first(c.Health().State(consul.HealthWarning, ours))
	same("definition", states[0].Definition.IntervalDuration, 30*time.Second)
	same("its checks", len(first(c.Health().Node("go-printer", nil))), 1)
	check(second(c.Catalog().Deregister(&consul.CatalogDeregistration{Node: "go-printer"}, nil)))
	same("external nodes", len(first(c.Catalog().Nodes(ours))), 0)
}

func watch(c *consul.Client) {
	register(c, "go-3")
	check(c.Agent().PassTTL("ttl:go-3", ""))
	_, meta, err := c.Health().Service("go-web", "", true, nil)
	check(err)
	go func() {
		time.Sleep(100 * time.Millisecond)
		check(c.Agent().FailTTL("ttl:go-3", "gone"))
	}()
	start := time.Now()
	wait := &consul.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Minute}
	entries, changed, err := c.Health().Service("go-web", "", true, wait)
	check(err)
	same("passing instances", len(entries), 0)
	if took := time.Since(start); changed.LastIndex <= meta.LastIndex || took > 10*time.Second {
		fail("index %d after %d, %v later", changed.LastIndex, meta.LastIndex, took)
	}
	wait = &consul.QueryOptions{WaitIndex: changed.LastIndex, WaitTime: 50 * time.Millisecond}
	_, quiet, err := c.Health().Service("go-web", "", true, wait)
	check(err)
	same("index without a change", quiet.LastIndex, changed.LastIndex)
	check(c.Agent().ServiceDeregister("go-3"))
}

func event(c *consul.Client) {
	id := first(c.Event().Fire(&consul.UserEvent{Name: "go-deploy", Payload: []byte("now")}, nil))
	events, meta, err := c.Event().List("go-deploy", nil)
	check(err)
	last := events[len(events)-1]
	same("event", []string{last.ID, string(last.Payload)}, []string{id, "now"})
	same("index", meta.LastIndex, c.Event().IDToIndex(id))
}

func session(c *consul.Client) {
	s := c.Session()
	id := first(s.Create(&consul.SessionEntry{Name: "go", TTL: "10s", LockDelay: time.Second, Behavior: "delete"}, nil))
	entry := first(s.Info(id, nil))
	same("session", []any{entry.Name, entry.TTL, entry.Behavior, entry.LockDelay}, []any{"go", "10s", "delete", time.Second})
	same("renewed", first(s.Renew(id, nil)).ID, id)
	if len(first(s.List(nil))) == 0 || len(first(s.Node(entry.Node, nil))) == 0 {
		fail("it is not listed")
	}
	pair := &consul.KVPair{Key: "go/held", Value: []byte("me"), Session: id}
	same("acquired", first(c.KV().Acquire(pair, nil)), true)
	held := first(c.KV().Get("go/held", nil))
	same("held", []any{held.Session, held.LockIndex}, []any{id, uint64(1)})
	other := first(s.CreateNoChecks(nil, nil))
	same("acquired twice", first(c.KV().Acquire(&consul.KVPair{Key: "go/held", Session: other}, nil)), false)
	same("released", first(c.KV().Release(pair, nil)), true)
	same("acquired after", first(c.KV().Acquire(pair, nil)), true)
	check(second(s.Destroy(id, nil)))
	same("its key", first(c.KV().Get("go/held", nil)), (*consul.KVPair)(nil))
	same("gone", first(s.Info(id, nil)), (*consul.SessionEntry)(nil))
	same("renewal of what is gone", first(s.Renew(id, nil)), (*consul.SessionEntry)(nil))
	check(second(s.Destroy(other, nil)))
}

func lock(c *consul.Client) {
	once := func() *consul.Lock {
		return must(c.LockOpts(&consul.LockOptions{Key: "go/lock", LockTryOnce: true, LockWaitTime: 100 * time.Millisecond}))
	}
	mine, theirs := once(), once()
	lost := must(mine.Lock(nil))
	if lost == nil {
		fail("a free lock is not given")
	}
	if must(theirs.Lock(nil)) != nil {
		fail("a held lock is given")
	}
	waiting := must(c.LockOpts(&consul.LockOptions{Key: "go/lock"}))
	got := make(chan struct{})
	go func() {
		must(waiting.Lock(nil))
		close(got)
	}()
	time.Sleep(100 * time.Millisecond)
	check(mine.Unlock())
	within("the one that waits gets it", got)
	check(waiting.Unlock())
	check(mine.Destroy())

	semaphore := func() *consul.Semaphore { return must(c.SemaphorePrefix("go/seats", 2)) }
	a, b := semaphore(), semaphore()
	must(a.Acquire(nil))
	must(b.Acquire(nil))
	full := &consul.SemaphoreOptions{Prefix: "go/seats", Limit: 2, SemaphoreTryOnce: true, SemaphoreWaitTime: 50 * time.Millisecond}
	if must(must(c.SemaphoreOpts(full)).Acquire(nil)) != nil {
		fail("three hold a semaphore of two")
	}
	check(a.Release())
	check(b.Release())
	check(a.Destroy())
}

func within(what string, done <-chan struct{}) {
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		fail("not within 10 s: %s", what)
	}
}

func txn(c *consul.Client) {
	ops := consul.KVTxnOps{
		{Verb: consul.KVSet, Key: "go/txn/a", Value: []byte("1"), Flags: 7},
		{Verb: consul.KVSet, Key: "go/txn/b", Value: []byte("2")},
		{Verb: consul.KVGetTree, Key: "go/txn/"},
	}
	ok, answer, _, err := c.KV().Txn(ops, nil)
	check(err)
	same("done", []any{ok, len(answer.Results), len(answer.Errors)}, []any{true, 4, 0})
	same("the value read back", string(answer.Results[3].Value), "2")
	ok, answer, _, err = c.KV().Txn(consul.KVTxnOps{
		{Verb: consul.KVSet, Key: "go/txn/a", Value: []byte("changed")},
		{Verb: consul.KVCheckNotExists, Key: "go/txn/b"},
	}, nil)
	check(err)
	same("refused", []any{ok, answer.Errors[0].OpIndex}, []any{false, 1})
	same("nothing changed", string(first(c.KV().Get("go/txn/a", nil)).Value), "1")

	node := consul.Node{Node: "go-txn", Address: "192.0.2.3"}
	service := consul.AgentService{ID: "s", Service: "go-txn", Port: 1}
	health := consul.HealthCheck{Node: "go-txn", CheckID: "c", Name: "c", Status: consul.HealthPassing, ServiceID: "s"}
	ok, all, _, err := c.Txn().Txn(consul.TxnOps{
		{Node: &consul.NodeTxnOp{Verb: consul.NodeSet, Node: node}},
		{Service: &consul.ServiceTxnOp{Verb: consul.ServiceSet, Node: "go-txn", Service: service}},
		{Check: &consul.CheckTxnOp{Verb: consul.CheckSet, Check: health}},
		{KV: &consul.KVTxnOp{Verb: consul.KVDeleteTree, Key: "go/txn/"}},
	}, nil)
	check(err)
	same("catalog written", []any{ok, len(all.Errors)}, []any{true, 0})
	same("instance", len(first(c.Health().Service("go-txn", "", true, nil))), 1)
	ok, _, _, err = c.Txn().Txn(consul.TxnOps{{Node: &consul.NodeTxnOp{Verb: consul.NodeDelete, Node: node}}}, nil)
	check(err)
	same("node deleted", ok, true)
	same("instances", len(first(c.Health().Service("go-txn", "", false, nil))), 0)
}

func filter(c *consul.Client) {
	register(c, "go-4")
	by := func(text string) *consul.QueryOptions { return &consul.QueryOptions{Filter: text} }
	same("met", len(first(c.Catalog().Service("go-web", "", by(`ServiceMeta.team == x and "v1" in ServiceTags`)))), 1)
	same("not met", len(first(c.Health().Service("go-web", "", false, by("Service.Port != 8080")))), 0)
	same("agent", len(must(c.Agent().ServicesWithFilter(`Service == "go-web"`))), 1)
	if _, _, err := c.Catalog().Nodes(by("Bogus ==")); err == nil {
		fail("nonsense is a filter")
	}
	check(c.Agent().ServiceDeregister("go-4"))
}

func query(c *consul.Client) {
	register(c, "go-5")
	check(c.Agent().PassTTL("ttl:go-5", ""))
	q := c.PreparedQuery()
	id := first(q.Create(&consul.PreparedQueryDefinition{
		Name: "go-q", Service: consul.ServiceQuery{Service: "go-web", OnlyPassing: true}, DNS: consul.QueryDNSOptions{TTL: "5s"},
	}, nil))
	same("stored", first(q.Get(id, nil))[0].Name, "go-q")
	answer := first(q.Execute("go-q", nil))
	same("found", []any{answer.Service, len(answer.Nodes), answer.DNS.TTL}, []any{"go-web", 1, "5s"})
	check(second(q.Delete(id, nil)))
	check(c.Agent().ServiceDeregister("go-5"))
}
