//! One pass of a job: its templates rendered, and their texts put where they belong.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Instant};

use tracing::{debug, info, warn};

use super::{KEEP_AFTER, Worker, part::Text};
use crate::{
    config::{DestinationSpec, Mode, SourceSpec, TemplateSpec},
    each::Made,
    kept::Kept,
    output::{FileSpec, Put},
    render::{Outcome, Rendering},
    values::Dependency,
};

/// What a pass came to.
pub(super) enum Pass {
    /// The text is where it belongs.
    Done(Put),
    /// Something is not known, or is not there; in words.
    Waiting(String),
    /// Something is wrong; in words.
    Failed(String),
}

impl Worker {
    /// Renders, and puts or shows the texts if there are any.
    pub(super) async fn pass(&mut self, mode: Mode) -> Pass {
        if let Some(bad) = self.parts.iter().find(|part| part.template.is_none()) {
            return Pass::Waiting(format!("template {} is wrong", bad.spec));
        }
        let mut templates: Vec<_> = self.parts.iter_mut().filter_map(|part| part.template.take()).collect();
        // All of a job see the same values.
        let values = self.reader.values();
        let as_of = Kept::new(&values, self.reader.following(), self.data.as_ref()).as_of;
        let seen = values.clone();
        let rendered = tokio::task::spawn_blocking(move || {
            let renderings: Vec<_> =
                templates.iter_mut().map(|template| template.render(values.clone(), as_of)).collect();
            (templates, renderings)
        });
        let renderings = match rendered.await {
            Ok((templates, renderings)) => {
                for (part, template) in self.parts.iter_mut().zip(templates) {
                    part.template = Some(template);
                }
                renderings
            }
            Err(panic) => {
                // The templates went down with it.
                for part in &mut self.parts {
                    part.template = part.parse(&part.loaded, &self.shared).ok();
                }
                return Pass::Failed(format!("template {}: the engine failed: {panic}", self.spec));
            }
        };
        debug!("rendered from {} values", seen.len());
        self.reader.follow(renderings.iter().flat_map(|rendering| rendering.used.clone()).collect());
        self.waiting_for.clear();
        let texts = match self.texts(renderings, mode) {
            Ok(texts) => texts,
            Err(pass) => return pass,
        };
        let data = Kept { as_of, ..Kept::new(&seen, self.reader.following(), None) };
        let stale = self.reader.is_stale();
        let new = self.data.as_ref() != Some(&data);
        self.data = Some(data);
        let pass = self.put(texts, mode).await;
        if let Pass::Done(put) = &pass {
            if stale && *put != Put::Same {
                warn!("the registry has not answered yet; this is what it said until {as_of}");
            }
            if new && !stale {
                self.save_at.get_or_insert(Instant::now() + KEEP_AFTER);
            }
        }
        pass
    }

    /// The texts, if all of them are there; what is not known counts before what is wrong.
    fn texts(&mut self, renderings: Vec<Rendering>, mode: Mode) -> Result<Vec<Text>, Pass> {
        let (mut texts, mut reasons, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for (part, rendering) in self.parts.iter().zip(renderings) {
            match rendering.outcome {
                Outcome::Text(text) => texts.extend(part.text(text)),
                Outcome::Files(files) => match part.files(files) {
                    Ok(files) => texts.extend(files),
                    Err(fault) => faults.push(fault),
                },
                Outcome::Pending(missing) => self.waiting_for.extend(missing),
                Outcome::Blocked(why) => reasons.extend(why),
                Outcome::Failed(error) => faults.push(part.spec.describe(&error)),
            }
        }
        if !self.waiting_for.is_empty() {
            return Err(Pass::Waiting(format!("no answer yet about {}", list(&self.waiting_for))));
        }
        if !faults.is_empty() {
            return Err(Pass::Failed(faults.join("\n")));
        }
        if reasons.is_empty() {
            return Ok(texts);
        }
        let why = reasons.join(", ");
        if mode == Mode::Daemon && self.told.as_ref() != Some(&why) {
            warn!("not written: {why}");
            self.told = Some(why.clone());
        }
        Err(Pass::Waiting(why))
    }

    async fn put(&mut self, texts: Vec<Text>, mode: Mode) -> Pass {
        let mut rendered = Vec::new();
        for text in texts {
            match text {
                Text::Stdout(text) => print!("{text}"),
                Text::File(file) => rendered.push(file),
            }
        }
        let each = self.parts.iter().any(|part| part.made.is_some());
        if rendered.is_empty() && !each {
            return Pass::Done(Put::Written);
        }
        let wanted: BTreeSet<PathBuf> = rendered.iter().map(|r| r.file.destination.clone()).collect();
        let gone: Vec<FileSpec> = self.parts.iter().flat_map(|part| part.gone(&wanted)).collect();
        let result = if mode == Mode::DryRun {
            self.output.preview(rendered).await.map(|diff| {
                print!("{diff}");
                for file in &gone {
                    info!("{} would go", file.destination.display());
                }
                if diff.is_empty() && gone.is_empty() {
                    info!("nothing would change");
                }
                Put::Same
            })
        } else {
            if let Err(error) = self.record(Made::before, &wanted) {
                return Pass::Failed(error);
            }
            self.output.put_and_remove(rendered, gone).await
        };
        match result {
            Ok(put) if mode != Mode::DryRun => match self.record(|made, wanted| made.after(wanted.clone()), &wanted) {
                Ok(()) => Pass::Done(put),
                Err(error) => Pass::Failed(error),
            },
            Ok(put) => Pass::Done(put),
            Err(error) => Pass::Failed(error.report(&self.hint())),
        }
    }

    /// Records which files are ours.
    fn record(
        &mut self,
        record: impl Fn(&mut Made, &BTreeSet<PathBuf>) -> std::io::Result<()>,
        wanted: &BTreeSet<PathBuf>,
    ) -> Result<(), String> {
        for part in &mut self.parts {
            let Some((made, directory)) = part.made.as_mut().zip(part.spec.directory()) else { continue };
            let own = wanted.iter().filter(|path| path.parent() == Some(directory)).cloned().collect();
            record(made, &own)
                .map_err(|e| format!("which files of template {} are ours cannot be recorded: {e}", part.spec))?;
        }
        Ok(())
    }

    /// How to look at a refused text.
    fn hint(&self) -> String {
        match &self.spec.templates[..] {
            [TemplateSpec { source: SourceSpec::File(source), destination: DestinationSpec::File(file) }] => {
                let (source, destination) = (source.display(), file.destination.display());
                format!("templater --once --template {source}:- | diff {destination} -")
            }
            _ => "templater --once --dry-run with the same configuration".to_owned(),
        }
    }
}

/// A few of many.
fn list(dependencies: &BTreeSet<Arc<Dependency>>) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<String> = dependencies.iter().take(SHOWN).map(ToString::to_string).collect();
    if dependencies.len() > SHOWN {
        names.push(format!("{} more", dependencies.len() - SHOWN));
    }
    names.join(", ")
}
