//! Tells when the configuration has changed: its files, and which templates lie in directories of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Notify;

use super::{Config, Faults, config_files, templates_in};
use crate::{cli::RunArgs, source::SourceWatcher, target::absolute};

/// A configuration that is looked after.
pub struct ConfigWatch {
    args: RunArgs,
    directory: PathBuf,
    /// Directories of templates.
    templates: Vec<PathBuf>,
    sources: SourceWatcher,
    wake: Arc<Notify>,
    seen: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl ConfigWatch {
    /// Of `config`, which came from `args` in `directory`.
    pub fn new(args: &RunArgs, directory: &Path, config: &Config) -> Self {
        let mut watch = Self {
            args: args.clone(),
            directory: directory.to_owned(),
            templates: Vec::new(),
            sources: SourceWatcher::new(),
            wake: Arc::default(),
            seen: Vec::new(),
        };
        watch.follow(config);
        watch.reading();
        watch
    }

    /// The configuration is read again: what it says now is no news.
    pub fn reading(&mut self) {
        self.seen = self.look();
    }

    /// The configuration is `config` now.
    pub fn follow(&mut self, config: &Config) {
        self.templates.clone_from(&config.template_dirs);
        self.listen();
    }

    /// Ends when something has changed that may matter.
    pub async fn changed(&mut self) {
        loop {
            self.wake.notified().await;
            self.listen(); // what is there now may lead elsewhere than before
            let now = self.look();
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    fn listen(&self) {
        for path in self.args.configs.iter().map(|path| absolute(&self.directory, path)) {
            self.sources.listen_to(&path, &self.wake);
            if path.is_dir() {
                self.sources.listen_in(BTreeSet::from([path]), &self.wake);
            }
        }
        self.sources.listen_in(self.templates.iter().cloned().collect(), &self.wake);
    }

    fn look(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let files = config_files(&self.args.configs, &self.directory, &mut Faults::default());
        let contents = files.into_iter().map(|path| (path.clone(), fs::read(path).ok()));
        let templates = self.templates.iter().flat_map(|dir| templates_in(dir).unwrap_or_default());
        contents.chain(templates.map(|path| (path, None))).collect()
    }
}
