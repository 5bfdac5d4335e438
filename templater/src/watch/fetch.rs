//! Asks the registry for one dependency, or reads the file that it is, once.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use kvstore_client::{Client, Error, Read, Select, Wait};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::values::{Answer, Dependency, ServiceQuery};

/// How often the datacenters are asked for.
const DATACENTERS_EVERY: Duration = Duration::from_secs(15);

/// A file that a template reads has at most so many bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

pub(super) async fn fetch(
    client: &Client,
    dependency: &Dependency,
    wait: Option<Wait>,
) -> Result<Read<Arc<Answer>>, Error> {
    fn shaped<T>(read: Read<T>, shape: impl FnOnce(T) -> Answer) -> Read<Arc<Answer>> {
        Read { index: read.index, value: Arc::new(shape(read.value)) }
    }
    Ok(match dependency {
        Dependency::Service(query) => {
            let ServiceQuery { name, passing, near, filter } = query.clone();
            let shape = if near.is_some() { Answer::nearest } else { Answer::instances };
            let select = Select { passing, near, filter, ..Select::default() };
            shaped(client.health_service_of(&name, &select, wait).await?, shape)
        }
        Dependency::Services => shaped(client.catalog_services(wait).await?, Answer::services),
        Dependency::Node(name) => shaped(client.catalog_node(name, wait).await?, Answer::node),
        Dependency::Nodes { near } => {
            let shape = if near.is_some() { Answer::nearest_nodes } else { Answer::nodes };
            let select = Select { near: near.clone(), ..Select::default() };
            shaped(client.catalog_nodes_of(&select, wait).await?, shape)
        }
        Dependency::NodeHealth => shaped(client.health_state("any", wait).await?, Answer::node_health),
        Dependency::Datacenters => {
            // The one read that cannot wait.
            if wait.is_some() {
                tokio::time::sleep(DATACENTERS_EVERY).await;
            }
            let read = Read { index: 1, value: client.datacenters().await? };
            shaped(read, Answer::datacenters)
        }
        Dependency::Key(path) => shaped(client.kv_get(path, wait).await?, Answer::key),
        Dependency::Prefix(prefix) => shaped(client.kv_list(prefix, wait).await?, Answer::pairs),
        Dependency::File { .. } => unreachable!("files are read, not asked for"),
        Dependency::In { dc, what } => Box::pin(fetch(&client.in_datacenter(dc), what, wait)).await?,
    })
}

/// The text of a file below `root`, wherever symlinks lead; or why there is none.
pub(crate) fn read_below(root: &Path, path: &Path) -> Result<String, String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let root = File::open(root)?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let file = File::from(openat2(&root, path, how)?);
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => Err(format!("is over {MAX_FILE_BYTES} bytes")),
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("is absent".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
