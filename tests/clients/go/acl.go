package main

import (
	"errors"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// What holders of the token below may do: nothing else.
const (
	before = `key_prefix "app/" { policy = "read" }`
	after  = before + ` service "web" { policy = "write" } node_prefix "" { policy = "read" }`
)

// refused is content with an error of that status, as the module types it.
func refused(what string, status int, err error) {
	var refusal consul.StatusError
	if !errors.As(err, &refusal) || refusal.Code != status {
		fail("%s ends with %v, not with %d", what, err, status)
	}
}

func denied(what string, err error) {
	refused(what, 403, err)
	if !strings.Contains(err.Error(), "Permission denied") {
		fail("%s ends with %v", what, err)
	}
}

// with is a client that shows a token.
func with(secret string) *consul.Client {
	config := consul.DefaultConfig()
	config.Address, config.Token = address, secret
	return must(consul.NewClient(config))
}

func acl(nobody *consul.Client) {
	denied("a list of tokens for nobody", last(nobody.ACL().TokenList(nil)))
	boss := first(nobody.ACL().Bootstrap())
	same("what the first token may", boss.Policies[0].Name, "global-management")
	denied("a second bootstrap", last(nobody.ACL().Bootstrap()))
	admin := with(boss.SecretID)
	policy := policies(admin.ACL())
	secret, accessor := tokens(admin, policy)
	holder := with(secret)
	rights(admin, holder, nobody)
	revoked(admin, holder, accessor)
	check(second(admin.ACL().PolicyDelete(policy, nil)))
	refused("a read of a policy that was deleted", 404, last(admin.ACL().PolicyRead(policy, nil)))
}

// last is the error of a call whose answer does not matter.
func last[T, M any](_ T, _ M, err error) error { return err }

// policies makes the policy of the tokens below.
func policies(a *consul.ACL) string {
	made := first(a.PolicyCreate(&consul.ACLPolicy{Name: "go-app", Description: "of app", Rules: before}, nil))
	refused("a second policy of that name", 400, last(a.PolicyCreate(&consul.ACLPolicy{Name: "go-app"}, nil)))
	refused("nonsense as rules", 400, last(a.PolicyCreate(&consul.ACLPolicy{Name: "go-bad", Rules: "key {"}, nil)))
	same("read", first(a.PolicyRead(made.ID, nil)), made)
	same("read by its name", first(a.PolicyReadByName("go-app", nil)), made)
	same("none of a name", first(a.PolicyReadByName("go-none", nil)), (*consul.ACLPolicy)(nil))
	changed := *made
	changed.Rules = after
	updated := first(a.PolicyUpdate(&changed, nil))
	same("updated", []any{updated.Rules, updated.Description, updated.ModifyIndex > made.ModifyIndex}, []any{after, "of app", true})
	if string(updated.Hash) == string(made.Hash) {
		fail("other rules have the same hash")
	}
	for _, one := range first(a.PolicyList(nil)) {
		if one.ID == made.ID {
			same("listed", []any{one.Name, one.Hash}, []any{"go-app", updated.Hash})
			return made.ID
		}
	}
	fail("the policy is not listed")
	return ""
}

// tokens makes a token that has the policy: its secret, and what it is called by.
func tokens(admin *consul.Client, policy string) (secret, accessor string) {
	a := admin.ACL()
	has := []*consul.ACLLink{{ID: policy, Name: "go-app"}}
	secret, accessor = "5c1f4f3e-61a5-4f36-8f5a-6a3f0f7d9a01", "b7a0f1de-0d5b-4c0e-9a5e-2f8f5b1c7d02"
	made := first(a.TokenCreate(&consul.ACLToken{
		SecretID: secret, AccessorID: accessor, Description: "go", Policies: []*consul.ACLLink{{Name: "go-app"}},
	}, nil))
	same("as it was wished", []any{made.SecretID, made.AccessorID, made.Policies}, []any{secret, accessor, has})
	again := &consul.ACLToken{SecretID: secret, Description: "the same secret"}
	refused("a second token of that secret", 400, last(a.TokenCreate(again, nil)))
	unknown := &consul.ACLToken{Policies: []*consul.ACLLink{{Name: "go-none"}}}
	refused("a token with an unknown policy", 400, last(a.TokenCreate(unknown, nil)))

	read := first(a.TokenRead(accessor, nil))
	same("read", []any{read.Description, read.Policies, read.CreateTime, read.Hash}, []any{"go", has, made.CreateTime, made.Hash})
	self := first(with(secret).ACL().TokenReadSelf(nil))
	same("read by itself", []any{self.AccessorID, self.SecretID}, []any{accessor, secret})
	same("its policy's rules", first(a.TokenReadExpanded(accessor, nil)).ExpandedPolicies[0].Rules, after)
	read.Description = "go, changed"
	updated := first(a.TokenUpdate(read, nil))
	same("updated", []any{updated.Description, updated.Policies}, []any{"go, changed", has})

	ends := first(a.TokenCreate(&consul.ACLToken{Description: "ends", ExpirationTTL: time.Hour}, nil))
	same("how long it lives", ends.ExpirationTime.Sub(ends.CreateTime).Round(time.Second), time.Hour)
	clone := first(a.TokenClone(accessor, "a clone", nil))
	same("cloned", []any{clone.Description, clone.Policies}, []any{"a clone", has})
	if clone.SecretID == secret || clone.AccessorID == accessor {
		fail("a clone is the same token")
	}
	same("those with the policy", len(first(a.TokenListFiltered(consul.ACLTokenFilterOptions{Policy: policy}, nil))), 2)
	// Beside them there are the first one and that of who shows none.
	same("all", len(first(a.TokenList(nil))), 5)
	check(second(a.TokenDelete(clone.AccessorID, nil)))
	refused("a request with a token that was deleted", 403, last(with(clone.SecretID).KV().Get("app/a", nil)))
	check(second(a.TokenDelete(ends.AccessorID, nil)))
	same("those that are left", len(first(a.TokenList(nil))), 3)
	return secret, accessor
}

// rights tries what the token gives, and what it does not.
func rights(admin, holder, nobody *consul.Client) {
	for _, key := range []string{"app/a", "other"} {
		check(second(admin.KV().Put(&consul.KVPair{Key: key, Value: []byte("1")}, nil)))
	}
	same("its key", string(first(holder.KV().Get("app/a", nil)).Value), "1")
	denied("another key", last(holder.KV().Get("other", nil)))
	denied("a write", second(holder.KV().Put(&consul.KVPair{Key: "app/a"}, nil)))
	denied("a deletion", second(holder.KV().DeleteTree("app/", nil)))
	same("keys", first(holder.KV().Keys("", "", nil)), []string{"app/a"})
	same("pairs", len(first(holder.KV().List("", nil))), 1)
	same("pairs for nobody", len(first(nobody.KV().List("", nil))), 0)

	check(admin.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "db"}))
	denied("another service", holder.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "db"}))
	denied("its end", holder.Agent().ServiceDeregister("db"))
	check(holder.Agent().ServiceRegister(&consul.AgentServiceRegistration{
		Name: "web", Check: &consul.AgentServiceCheck{TTL: "30s"},
	}))
	check(holder.Agent().PassTTL("service:web", ""))
	denied("nobody's pass", nobody.Agent().PassTTL("service:web", ""))
	same("instances", len(first(holder.Health().Service("web", "", true, nil))), 1)
	same("instances for nobody", len(first(nobody.Health().Service("web", "", true, nil))), 0)
	same("instances of another", len(first(holder.Catalog().Service("db", "", nil))), 0)
	same("services", first(holder.Catalog().Services(nil)), map[string][]string{"web": {}})
	same("services for nobody", len(first(nobody.Catalog().Services(nil))), 0)
	same("nodes", len(first(holder.Catalog().Nodes(nil))), 1)
	same("nodes for nobody", len(first(nobody.Catalog().Nodes(nil))), 0)
	same("services of the agent", len(must(holder.Agent().Services())), 1)

	denied("a session", last(holder.Session().Create(nil, nil)))
	denied("an event", last(holder.Event().Fire(&consul.UserEvent{Name: "go-deploy"}, nil)))
	denied("a policy", last(holder.ACL().PolicyList(nil)))
	write := consul.KVTxnOps{{Verb: consul.KVGet, Key: "app/a"}, {Verb: consul.KVSet, Key: "app/a", Value: []byte("2")}}
	ok, answer, _, err := holder.KV().Txn(write, nil)
	check(err)
	same("a transaction", []any{ok, len(answer.Errors), answer.Errors[0].OpIndex}, []any{false, 1, 1})
	if what := answer.Errors[0].What; !strings.HasPrefix(what, "Permission denied") {
		fail("the step that is not permitted is told as %q", what)
	}
	same("the key after", string(first(holder.KV().Get("app/a", nil)).Value), "1")
	check(holder.Agent().ServiceDeregister("web"))
}

// revoked deletes the token while its holder waits.
func revoked(admin, holder *consul.Client, accessor string) {
	_, meta, err := holder.KV().Get("app/a", nil)
	check(err)
	go func() {
		time.Sleep(100 * time.Millisecond)
		check(second(admin.ACL().TokenDelete(accessor, nil)))
	}()
	ended := make(chan struct{})
	go func() {
		wait := &consul.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Minute}
		refused("a wait whose token was deleted", 403, last(holder.KV().Get("app/a", wait)))
		close(ended)
	}()
	within("the wait ends with its token", ended)
}
