//! The registry's rules once more, on plain maps and without any index.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kvstore_core::{
    AclRefusal, Command, Index, KvVerb, Outcome, QueryRefusal, Refusal, RowVerb, Target, TxnError, TxnStep,
    credentials::{ANONYMOUS, Bootstrap, GLOBAL_MANAGEMENT, Policy, Token},
    health::Status,
    names::{CheckId, InstanceId, NodeKey, PolicyId, SessionId, TokenId},
    prepared_query::{InvalidQuery, InvalidTemplate, NAME_PREFIX_MATCH, PreparedQuery, QueryId},
    row::{Behavior, Check, Instance, KvEntry, Node, Owner, ProbeKind, Row, Session, Stamped},
};

/// Rows by table and key; stamps are set where a row's content differs from what it was.
#[derive(Clone)]
pub(crate) struct Naive {
    pub(crate) index: u64,
    pub(crate) nodes: BTreeMap<NodeKey, Stamped<Node>>,
    pub(crate) instances: BTreeMap<(NodeKey, InstanceId), Stamped<Instance>>,
    pub(crate) checks: BTreeMap<(NodeKey, CheckId), Stamped<Check>>,
    pub(crate) sessions: BTreeMap<SessionId, Stamped<Session>>,
    pub(crate) queries: BTreeMap<QueryId, Stamped<PreparedQuery>>,
    pub(crate) tokens: BTreeMap<TokenId, Stamped<Token>>,
    pub(crate) policies: BTreeMap<PolicyId, Stamped<Policy>>,
    pub(crate) bootstrap: BTreeMap<(), Stamped<Bootstrap>>,
    pub(crate) kv: BTreeMap<String, Stamped<KvEntry>>,
    /// Whether steps of the last transaction changed one row twice, so that what the first did may be undone.
    pub(crate) twice: bool,
}

fn unstamped<T>(value: T) -> Stamped<T> {
    Stamped { created: Index(0), modified: Index(0), value }
}

/// Gives what is new or changed its stamps, and what is as before those it had.
fn stamp<K: Ord, T: PartialEq>(table: &mut BTreeMap<K, Stamped<T>>, old: &BTreeMap<K, Stamped<T>>, now: Index) {
    for (key, row) in table {
        let old = old.get(key);
        row.created = old.map_or(now, |old| old.created);
        row.modified = old.filter(|old| old.value == row.value).map_or(now, |old| old.modified);
    }
}

impl Naive {
    pub(crate) fn new(index: u64) -> Self {
        let (nodes, instances, checks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (sessions, queries) = (BTreeMap::new(), BTreeMap::new());
        let (tokens, policies, bootstrap, kv) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { index, nodes, instances, checks, sessions, queries, tokens, policies, bootstrap, kv, twice: false }
    }

    pub(crate) fn carry_out(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        self.twice = false;
        let mut next = self.clone();
        let outcome = match command {
            Command::Txn { steps } => next.txn(steps)?,
            command => next.step(|naive| naive.change(command))?,
        };
        if next.twice || next.rows() != self.rows() {
            next.index = self.index + 1;
            *self = next;
        }
        Ok(outcome)
    }

    /// Makes one change with what follows from it; none if it is refused.
    fn step<T, E>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let mut next = self.clone();
        let done = change(&mut next)?;
        while let Some(id) = next.ended_session() {
            next.end_session(&id);
        }
        let now = Index(self.index + 1);
        stamp(&mut next.nodes, &self.nodes, now);
        stamp(&mut next.instances, &self.instances, now);
        stamp(&mut next.checks, &self.checks, now);
        stamp(&mut next.sessions, &self.sessions, now);
        stamp(&mut next.queries, &self.queries, now);
        stamp(&mut next.tokens, &self.tokens, now);
        stamp(&mut next.policies, &self.policies, now);
        stamp(&mut next.bootstrap, &self.bootstrap, now);
        stamp(&mut next.kv, &self.kv, now);
        *self = next;
        Ok(done)
    }

    fn ended_session(&self) -> Option<SessionId> {
        let holds = |session: &Session, id: &CheckId| {
            let check = self.checks.get(&(session.node.clone(), id.clone()));
            check.is_some_and(|check| check.status != Status::Critical)
        };
        let lives =
            |session: &Session| self.nodes.contains_key(&session.node) && session.checks().all(|id| holds(session, id));
        self.sessions.values().find(|session| !lives(session)).map(|session| session.id.clone())
    }

    fn end_session(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.queries.retain(|_, query| query.session != id.as_str());
        let held = |entry: &Stamped<KvEntry>| entry.session.as_ref() == Some(id);
        match session.behavior {
            Behavior::Delete => self.kv.retain(|_, entry| !held(entry)),
            Behavior::Release => {
                for entry in self.kv.values_mut().filter(|entry| held(entry)) {
                    entry.value.session = None;
                }
            }
        }
    }

    /// The words for a failure are the tables' to judge.
    fn txn(&mut self, steps: &[TxnStep]) -> Result<Outcome, Refusal> {
        let (mut changed, mut errors) = (BTreeSet::new(), Vec::new());
        for (step, txn_step) in steps.iter().enumerate() {
            let before = self.rows();
            if self.step(|naive| naive.txn_step(txn_step)).is_err() {
                errors.push(TxnError { step, what: String::new() });
            }
            let (before, after): (BTreeSet<_>, BTreeSet<_>) =
                (before.into_iter().collect(), self.rows().into_iter().collect());
            let keys: BTreeSet<_> = before.symmetric_difference(&after).map(|(key, _)| key.clone()).collect();
            self.twice |= !changed.is_disjoint(&keys);
            changed.extend(keys);
        }
        if errors.is_empty() { Ok(Outcome::Txn(vec![])) } else { Err(Refusal::Txn(errors)) }
    }

    fn txn_step(&mut self, step: &TxnStep) -> Result<(), ()> {
        let done = |outcome: Result<Outcome, Refusal>| match outcome {
            Ok(Outcome::Done) => Ok(()),
            _ => Err(()),
        };
        let ensure = |holds: bool| if holds { Ok(()) } else { Err(()) };
        match step {
            TxnStep::Kv { verb, key, value, flags } => {
                let (key, value, flags, ttl) = (key.clone(), value.clone(), *flags, Duration::ZERO);
                let old = self.kv.get(key.as_str());
                let command = match verb.clone() {
                    KvVerb::Set => Command::KvPut { key, value, flags, cas: None, ttl },
                    KvVerb::Cas(cas) => Command::KvPut { key, value, flags, cas: Some(cas), ttl },
                    KvVerb::Lock { session, delayed } => Command::KvLock { key, value, flags, session, delayed },
                    KvVerb::Unlock(session) => Command::KvUnlock { key, value, flags, session },
                    KvVerb::Delete => Command::KvDelete { key, cas: None },
                    KvVerb::DeleteCas(cas) => Command::KvDelete { key, cas: Some(cas) },
                    KvVerb::Get => return ensure(old.is_some()),
                    KvVerb::GetOrEmpty => return Ok(()),
                    KvVerb::CheckIndex(index) => return ensure(old.is_some_and(|old| old.modified.0 == index)),
                    KvVerb::CheckSession(id) => {
                        let held = |old: &Stamped<KvEntry>| old.session.as_ref().map_or("", |s| s.as_str()) == id;
                        return ensure(old.is_some_and(held));
                    }
                    KvVerb::CheckNotExists => return ensure(old.is_none()),
                };
                done(self.change(&command))
            }
            TxnStep::KvGetTree(_) => Ok(()),
            TxnStep::KvDeleteTree(prefix) => done(self.change(&Command::KvDeleteTree { prefix: prefix.clone() })),
            TxnStep::Node { verb, name, node } => {
                let key = name.clone().expect("named in this test");
                let modified = self.nodes.get(&key).map(|old| old.modified.0);
                if !fits(*verb, modified)? {
                    return Ok(());
                }
                if deletes(*verb) {
                    self.remove(&key, &Target::Node);
                    return Ok(());
                }
                self.register(node, false, None, &[]).map_err(drop)
            }
            TxnStep::Instance { verb, node, id, instance } => {
                let modified = self.instances.get(&(node.clone(), id.clone())).map(|old| old.modified.0);
                if !fits(*verb, modified)? {
                    return Ok(());
                }
                if deletes(*verb) {
                    self.remove(node, &Target::Instance(id.clone()));
                    return Ok(());
                }
                self.need_node(node).map_err(drop)?;
                self.put_kept_instance(instance.as_deref().expect("given in this test"));
                Ok(())
            }
            TxnStep::Check { verb, node, id, check } => {
                let modified = self.checks.get(&(node.clone(), id.clone())).map(|old| old.modified.0);
                if !fits(*verb, modified)? {
                    return Ok(());
                }
                if deletes(*verb) {
                    self.remove(node, &Target::Check(id.clone()));
                    return Ok(());
                }
                let check = check.as_deref().expect("given in this test");
                self.need_node(node).map_err(drop)?;
                if let Some(of) = &check.service {
                    ensure(self.instances.contains_key(&(node.clone(), of.clone())))?;
                }
                self.put_kept_check(check, &self.checks.clone());
                Ok(())
            }
            TxnStep::Wrong { .. } => Err(()),
        }
    }

    pub(crate) fn rows(&self) -> Vec<(String, Vec<u8>)> {
        fn encode<K, T: Clone>(table: &BTreeMap<K, Stamped<T>>, row: fn(T) -> Row) -> Vec<(String, Vec<u8>)> {
            let encode = |stamped: &Stamped<T>| {
                let row = row(stamped.value.clone());
                (row.key().encode(), row.encode(stamped.created, stamped.modified))
            };
            table.values().map(encode).collect()
        }
        let mut rows = encode(&self.nodes, Row::Node);
        rows.extend(encode(&self.instances, Row::Instance));
        rows.extend(encode(&self.checks, Row::Check));
        rows.extend(encode(&self.sessions, Row::Session));
        rows.extend(encode(&self.queries, Row::Query));
        rows.extend(encode(&self.tokens, Row::Token));
        rows.extend(encode(&self.policies, Row::Policy));
        rows.extend(encode(&self.bootstrap, Row::Bootstrap));
        rows.extend(encode(&self.kv, Row::Kv));
        rows.sort();
        rows
    }

    fn put_query(&mut self, query: &PreparedQuery) -> Result<(), QueryRefusal> {
        let (name, kind) = (&query.name, query.template.kind.as_str());
        if name.is_empty() && kind.is_empty() && query.session.is_empty() {
            return Err(InvalidQuery::Unbound.into());
        }
        if query.service.service.is_empty() {
            return Err(InvalidQuery::NoService.into());
        }
        let others = || self.queries.values().filter(|other| other.id != query.id);
        if name.is_empty() && !kind.is_empty() && others().any(|other| other.name.is_empty() && other.is_template()) {
            return Err(QueryRefusal::CatchAllTaken);
        }
        if !name.is_empty() && others().any(|other| other.name.to_lowercase() == name.to_lowercase()) {
            return Err(QueryRefusal::NameTaken(name.clone()));
        }
        if self.queries.keys().any(|id| id.as_str() == name) {
            return Err(QueryRefusal::NameIsId(name.clone()));
        }
        if !query.session.is_empty() && !self.sessions.keys().any(|id| id.as_str() == query.session) {
            return Err(QueryRefusal::UnknownSession(query.session.clone()));
        }
        if !matches!(kind, "" | NAME_PREFIX_MATCH) {
            return Err(InvalidTemplate::Kind(kind.into()).into());
        }
        self.queries.insert(query.id.clone(), unstamped(query.clone()));
        Ok(())
    }

    /// The id of the query that a name means, and what it asks for; an error if it is the id of a template.
    pub(crate) fn resolve(&self, asked: &str) -> Result<Option<(QueryId, String)>, ()> {
        if let Some(query) = self.queries.values().find(|query| query.id.as_str() == asked) {
            let found = (query.id.clone(), query.service.service.clone());
            return if query.is_template() { Err(()) } else { Ok(Some(found)) };
        }
        let folded = asked.to_lowercase();
        let fits = |query: &&Stamped<PreparedQuery>| {
            let own = query.name.to_lowercase();
            !own.is_empty() && own == folded || query.is_template() && folded.starts_with(&own)
        };
        let Some(query) = self.queries.values().filter(fits).max_by_key(|query| query.name.len()) else {
            return Ok(None);
        };
        let service = if query.is_template() {
            let suffix = &asked[query.name.len()..];
            query.service.service.replace("${name.full}", asked).replace("${name.suffix}", suffix)
        } else {
            query.service.service.clone()
        };
        Ok(Some((query.id.clone(), service)))
    }

    fn change_acl(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::PrepareAcl { now, management } => {
                self.put_global_management();
                let accessor = TokenId::new(ANONYMOUS).unwrap();
                self.tokens.entry(accessor.clone()).or_insert_with(|| {
                    let (description, policies) = ("Anonymous Token".into(), vec![]);
                    let (secret, local, made, ends) = (None, false, *now, Duration::ZERO);
                    unstamped(Token { accessor, secret, description, policies, local, made, ends })
                });
                if let Some(token) = management
                    && !self.tokens.values().any(|other| other.secret == token.secret)
                {
                    self.bootstrap.entry(()).or_insert_with(|| unstamped(Bootstrap { token: token.accessor.clone() }));
                    self.put_management(token);
                }
            }
            Command::BootstrapAcl { token, .. } => {
                if let Some(done) = self.bootstrap.get(&()) {
                    return Err(AclRefusal::Bootstrapped(done.modified).into());
                }
                self.claim(token)?;
                self.put_global_management();
                self.put_management(token);
                self.bootstrap.insert((), unstamped(Bootstrap { token: token.accessor.clone() }));
            }
            Command::CreateToken { token } => {
                self.claim(token)?;
                self.need_policies(&token.policies)?;
                self.tokens.insert(token.accessor.clone(), unstamped((**token).clone()));
            }
            Command::UpdateToken { token, description, policies } => {
                let old = self.tokens.get(token).ok_or(AclRefusal::UnknownToken)?.value.clone();
                self.need_policies(policies)?;
                let (description, policies) = (description.clone(), policies.clone());
                self.tokens.insert(token.clone(), unstamped(Token { description, policies, ..old }));
            }
            Command::DeleteToken { token } => {
                if token.as_str() == ANONYMOUS {
                    return Err(AclRefusal::Anonymous.into());
                }
                self.tokens.remove(token).ok_or(AclRefusal::UnknownToken)?;
            }
            Command::ExpireToken { token } => drop(self.tokens.remove(token)),
            Command::CreatePolicy { policy } => {
                if self.policies.contains_key(&policy.id) {
                    return Err(Refusal::Conflict);
                }
                self.put_policy(policy)?;
            }
            Command::UpdatePolicy { policy } => {
                let old = self.policies.get(&policy.id).ok_or(AclRefusal::UnknownPolicy)?;
                if policy.id.as_str() == GLOBAL_MANAGEMENT && policy.rules != old.rules {
                    return Err(AclRefusal::BuiltinRules.into());
                }
                self.put_policy(policy)?;
            }
            Command::DeletePolicy { policy } => {
                if policy.as_str() == GLOBAL_MANAGEMENT {
                    return Err(AclRefusal::Builtin.into());
                }
                self.policies.remove(policy).ok_or(AclRefusal::UnknownPolicy)?;
                self.tokens.values_mut().for_each(|token| token.value.policies.retain(|id| id != policy));
            }
            other => unreachable!("{other:?} is of other things"),
        }
        Ok(())
    }

    /// With the rules that the state has, which its own tests judge.
    fn put_global_management(&mut self) {
        let id = PolicyId::new(GLOBAL_MANAGEMENT).unwrap();
        let mut state = kvstore_core::State::empty(Index(1));
        let prepare = Command::PrepareAcl { now: Duration::ZERO, management: None };
        state.apply(Index(2), &kvstore_core::decide(&state, &prepare).unwrap().changes);
        let builtin = state.credentials().policy(&id).unwrap().value.clone();
        self.policies.entry(id).or_insert_with(|| unstamped(builtin));
    }

    fn put_management(&mut self, token: &Token) {
        let policies = vec![PolicyId::new(GLOBAL_MANAGEMENT).unwrap()];
        self.tokens.insert(token.accessor.clone(), unstamped(Token { policies, ..token.clone() }));
    }

    fn claim(&self, token: &Token) -> Result<(), AclRefusal> {
        if self.tokens.contains_key(&token.accessor) {
            return Err(AclRefusal::AccessorTaken);
        }
        let taken = self.tokens.values().any(|other| other.secret == token.secret);
        if taken { Err(AclRefusal::SecretTaken) } else { Ok(()) }
    }

    fn need_policies(&self, ids: &[PolicyId]) -> Result<(), AclRefusal> {
        let unknown = ids.iter().find(|id| !self.policies.contains_key(*id));
        unknown.map_or(Ok(()), |id| Err(AclRefusal::NoSuchPolicy(id.clone())))
    }

    fn put_policy(&mut self, policy: &Policy) -> Result<(), AclRefusal> {
        if policy.name.contains(' ') {
            return Err(AclRefusal::Name);
        }
        if self.policies.values().any(|other| other.name == policy.name && other.id != policy.id) {
            return Err(AclRefusal::NameTaken(policy.name.clone()));
        }
        self.policies.insert(policy.id.clone(), unstamped(policy.clone()));
        Ok(())
    }

    fn change(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Restore { .. } => unreachable!("not among the random commands: it wakes more than it changes"),
            Command::KvPut { key, value, flags, cas, ttl: _ } => {
                let old = self.kv.get(key.as_str());
                if cas.is_some_and(|cas| cas != old.map_or(0, |old| old.modified.0)) {
                    return Ok(Outcome::NotMatched);
                }
                let (lock_index, session) = old.map_or((0, None), |old| (old.lock_index, old.session.clone()));
                let (key, value) = (key.clone(), value.clone());
                let entry =
                    KvEntry { key: key.clone(), value, flags: *flags, lock_index, session, ttl: Duration::ZERO };
                self.kv.insert(key.as_str().into(), unstamped(entry));
            }
            Command::CreateQuery { query } => {
                if self.queries.contains_key(&query.id) {
                    return Err(Refusal::Conflict);
                }
                self.put_query(query)?;
            }
            Command::UpdateQuery { query } => {
                if !self.queries.contains_key(&query.id) {
                    return Err(QueryRefusal::Unknown(query.id.clone()).into());
                }
                self.put_query(query)?;
            }
            Command::DeleteQuery { query } => {
                self.queries.remove(query).ok_or_else(|| QueryRefusal::Unknown(query.clone()))?;
            }
            Command::PrepareAcl { .. }
            | Command::BootstrapAcl { .. }
            | Command::CreateToken { .. }
            | Command::UpdateToken { .. }
            | Command::DeleteToken { .. }
            | Command::ExpireToken { .. }
            | Command::CreatePolicy { .. }
            | Command::UpdatePolicy { .. }
            | Command::DeletePolicy { .. } => self.change_acl(command)?,
            Command::KvLock { key, value, flags, session, delayed } => {
                if !self.sessions.contains_key(session) {
                    return Err(Refusal::InvalidSession(session.clone()));
                }
                let old = self.kv.get(key.as_str()).map(|old| old.value.clone());
                let holder = old.as_ref().and_then(|old| old.session.clone());
                if *delayed || holder.as_ref().is_some_and(|holder| holder != session) {
                    return Ok(Outcome::NotMatched);
                }
                let lock_index = old.map_or(0, |old| old.lock_index) + u64::from(holder.is_none());
                let (value, flags, session, ttl) = (value.clone(), *flags, Some(session.clone()), Duration::ZERO);
                let entry = KvEntry { key: key.clone(), value, flags, lock_index, session, ttl };
                self.kv.insert(key.as_str().into(), unstamped(entry));
            }
            Command::KvUnlock { key, value, flags, session } => {
                let Some(old) = self.kv.get_mut(key.as_str()).filter(|old| old.session.as_ref() == Some(session))
                else {
                    return Ok(Outcome::NotMatched);
                };
                (old.value.value, old.value.flags, old.value.session) = (value.clone(), *flags, None);
            }
            Command::ExpireKey { .. } => {}
            Command::CreateSession { session } => {
                if !self.nodes.contains_key(&session.node) {
                    return Err(Refusal::SessionOnUnknownNode(session.node.clone()));
                }
                for id in session.checks() {
                    let check = self.checks.get(&(session.node.clone(), id.clone()));
                    let check = check.ok_or_else(|| Refusal::SessionOfUnknownCheck(id.clone()))?;
                    if check.status == Status::Critical {
                        return Err(Refusal::SessionOfCriticalCheck(id.clone()));
                    }
                }
                self.sessions.insert(session.id.clone(), unstamped((**session).clone()));
            }
            Command::RenewSession { session } => {
                self.sessions.get(session).map(drop).ok_or_else(|| Refusal::UnknownSession(session.clone()))?;
            }
            Command::DestroySession { session } | Command::ExpireSession { session } => self.end_session(session),
            Command::Txn { .. } => unreachable!("a transaction has no other inside"),
            Command::KvDelete { key, cas } => {
                let old = self.kv.get(key.as_str());
                if old.is_some_and(|old| cas.is_some_and(|cas| cas != old.modified.0)) {
                    return Ok(Outcome::NotMatched);
                }
                self.kv.remove(key.as_str());
            }
            Command::KvDeleteTree { prefix } => self.kv.retain(|key, _| !key.starts_with(prefix)),
            Command::Register { node, keep_node, instance, checks } => {
                self.register(node, *keep_node, instance.as_deref(), checks)?;
            }
            Command::RegisterInstance { instance, checks, replace_checks } => {
                self.need_node(&instance.node)?;
                self.put_instance(instance);
                let before = self.checks.clone();
                let listed = |id: &CheckId| checks.iter().any(|check| check.id == *id);
                self.checks.retain(|(node, id), old| {
                    let own = *node == instance.node && old.service.as_ref() == Some(&instance.id);
                    !(own && *replace_checks) || listed(id)
                });
                for check in checks {
                    self.put_keeping_state(check, &before);
                }
            }
            Command::RegisterCheck { check } => {
                self.need_node(&check.node)?;
                if let Some(id) = &check.service {
                    let instance = self.instances.get(&(check.node.clone(), id.clone()));
                    if instance.is_none_or(|instance| instance.owner != Owner::Agent) {
                        return Err(Refusal::CheckOfUnknownInstance(id.clone()));
                    }
                }
                self.put_keeping_state(check, &self.checks.clone());
            }
            Command::Deregister { node, target } => self.remove(node, target),
            Command::DeregisterOwn { node, target } => {
                match target {
                    Target::Node => return Err(Refusal::UnknownNode(node.clone())),
                    Target::Instance(id) => {
                        let own = self.instances.get(&(node.clone(), id.clone()));
                        own.filter(|i| i.owner == Owner::Agent).ok_or(Refusal::UnknownInstance(id.clone()))?;
                    }
                    Target::Check(id) => drop(self.own_check(node, id)?),
                }
                self.remove(node, target);
            }
            Command::Undefine { node, target } => {
                let from_file = match target {
                    Target::Node => false,
                    Target::Instance(id) => {
                        self.instances.get(&(node.clone(), id.clone())).is_some_and(|i| i.from_file)
                    }
                    Target::Check(id) => self.checks.get(&(node.clone(), id.clone())).is_some_and(|c| c.from_file),
                };
                if from_file {
                    self.remove(node, target);
                }
            }
            Command::ReportTtl { node, check, status, output } => {
                let old = self.own_check(node, check)?;
                if !is_ttl(&old) {
                    return Err(Refusal::NotTtl(check.clone()));
                }
                self.put_check(&Check { status: *status, output: output.clone(), ..old });
            }
            Command::ExpireTtl { node, check } => {
                if let Some(old) = self.checks.get(&(node.clone(), check.clone())).map(|old| old.value.clone())
                    && is_ttl(&old)
                    && old.status != Status::Critical
                {
                    let output = match check.as_str() {
                        "serfHealth" => "Agent not live or unreachable".to_owned(),
                        _ => format!("TTL expired (last output before timeout follows): {}", old.output),
                    };
                    self.put_check(&Check { status: Status::Critical, output, ..old });
                }
            }
            Command::ReapCritical { node, check, probe } => {
                if let Some(old) = self.checks.get(&(node.clone(), check.clone())).map(|old| old.value.clone())
                    && old.probe.as_ref() == Some(probe)
                    && old.status == Status::Critical
                    && let Some(instance) = old.service
                {
                    self.remove(node, &Target::Instance(instance));
                }
            }
            Command::ProbeResult { node, check, probe, status, output } => {
                if let Some(old) = self.checks.get(&(node.clone(), check.clone())).map(|old| old.value.clone())
                    && old.probe.as_ref() == Some(probe)
                {
                    self.put_check(&Check { status: *status, output: output.clone(), ..old });
                }
            }
        }
        Ok(Outcome::Done)
    }

    fn register(
        &mut self,
        node: &Node,
        keep: bool,
        instance: Option<&Instance>,
        checks: &[Check],
    ) -> Result<(), Refusal> {
        let key = node.key();
        let old = self.nodes.get(&key).map(|old| old.value.clone());
        if !(keep && old.is_some()) {
            let mut node = node.clone();
            match old {
                Some(old) if node.id.is_empty() => node.id = old.id,
                Some(old) if !old.id.is_empty() && old.id != node.id => {
                    let alive = self.checks.get(&(key.clone(), CheckId::new("serfHealth").unwrap()));
                    if alive.is_some_and(|check| check.status == Status::Passing) {
                        let (name, id, address) = (node.name, old.id, old.address);
                        return Err(Refusal::NodeNameTaken { name, id, address });
                    }
                }
                _ => {}
            }
            let renamed = self.nodes.iter().find(|(k, n)| **k != key && !node.id.is_empty() && n.id == node.id);
            if let Some(old) = renamed.map(|(key, _)| key.clone()) {
                self.remove(&old, &Target::Node);
            }
            self.nodes.insert(key.clone(), unstamped(node));
        }
        if let Some(instance) = instance {
            self.put_kept_instance(instance);
        }
        let before = self.checks.clone();
        for check in checks {
            if let Some(instance) = &check.service
                && !self.instances.contains_key(&(key.clone(), instance.clone()))
            {
                let (instance, check) = (instance.clone(), check.id.clone());
                return Err(Refusal::CatalogCheckOfUnknownInstance { instance, check });
            }
            self.put_kept_check(check, &before);
        }
        Ok(())
    }

    fn put_kept_instance(&mut self, instance: &Instance) {
        let mut instance = instance.clone();
        let old = self.instances.get(&(instance.node.clone(), instance.id.clone()));
        if let Some(old) = old.filter(|old| old.owner == Owner::Agent && instance.owner == Owner::External) {
            (instance.owner, instance.from_file) = (Owner::Agent, old.from_file);
        }
        self.put_instance(&instance);
    }

    /// As it was before the command, should the command name a check twice.
    fn put_kept_check(&mut self, check: &Check, before: &BTreeMap<(NodeKey, CheckId), Stamped<Check>>) {
        let mut check = check.clone();
        let old = before.get(&(check.node.clone(), check.id.clone())).map(|old| old.value.clone());
        if let Some(old) = old.filter(|old| old.owner == Owner::Agent && check.owner == Owner::External) {
            (check.owner, check.from_file, check.probe) = (Owner::Agent, old.from_file, old.probe);
            (check.kind, check.interval, check.timeout) = (old.kind, old.interval, old.timeout);
        }
        self.put_check(&check);
    }

    fn remove(&mut self, node: &NodeKey, target: &Target) {
        match target {
            Target::Node => {
                self.nodes.remove(node);
                self.instances.retain(|(of, _), _| of != node);
                self.checks.retain(|(of, _), _| of != node);
            }
            Target::Instance(id) => {
                self.instances.remove(&(node.clone(), id.clone()));
                self.checks.retain(|(of, _), check| of != node || check.service.as_ref() != Some(id));
            }
            Target::Check(id) => drop(self.checks.remove(&(node.clone(), id.clone()))),
        }
    }

    fn need_node(&self, node: &NodeKey) -> Result<(), Refusal> {
        self.nodes.get(node).map(drop).ok_or_else(|| Refusal::UnknownNode(node.clone()))
    }

    fn own_check(&self, node: &NodeKey, id: &CheckId) -> Result<Check, Refusal> {
        let check = self.checks.get(&(node.clone(), id.clone())).filter(|check| check.owner == Owner::Agent);
        check.map(|check| check.value.clone()).ok_or_else(|| Refusal::UnknownCheck(id.clone()))
    }

    fn put_instance(&mut self, instance: &Instance) {
        self.instances.insert((instance.node.clone(), instance.id.clone()), unstamped(instance.clone()));
    }

    fn put_check(&mut self, check: &Check) {
        self.checks.insert((check.node.clone(), check.id.clone()), unstamped(check.clone()));
    }

    /// As it was before the command, should the command name a check twice.
    fn put_keeping_state(&mut self, check: &Check, before: &BTreeMap<(NodeKey, CheckId), Stamped<Check>>) {
        let mut check = check.clone();
        if let Some(old) = before.get(&(check.node.clone(), check.id.clone())) {
            (check.status, check.output) = (old.status, old.output.clone());
        }
        self.put_check(&check);
    }
}

fn is_ttl(check: &Check) -> bool {
    matches!(check.probe.as_deref(), Some(probe) if matches!(probe.kind, ProbeKind::Ttl { .. }))
}

/// Whether there is anything to write or delete; an error if the verb does not suit the row.
fn fits(verb: RowVerb, modified: Option<u64>) -> Result<bool, ()> {
    match (verb, modified) {
        (RowVerb::Get, Some(_)) => Ok(false),
        (RowVerb::Set | RowVerb::Delete, _) | (RowVerb::DeleteCas(_), None) => Ok(true),
        (RowVerb::Cas(index), modified) if modified.unwrap_or(0) == index => Ok(true),
        (RowVerb::DeleteCas(index), Some(modified)) if modified == index => Ok(true),
        _ => Err(()),
    }
}

fn deletes(verb: RowVerb) -> bool {
    matches!(verb, RowVerb::Delete | RowVerb::DeleteCas(_))
}
