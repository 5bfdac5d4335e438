//! A disk in memory whose power goes, or which fails, at a chosen call.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use rand::{RngExt as _, rngs::StdRng};
use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::engine::file::{Disk, Part};

/// All that can fail.
pub(super) const ALL: &[Part] = &[Part::Tables, Part::EvenJournal, Part::OddJournal];

/// What real disks write as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What is to go wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// At this change of the disk, counted from 1, the power goes.
    PowerCut {
        at: u64,
    },
    /// From this call on, reads counted too, so many calls fail, as far as they are about these parts.
    Errors {
        of: &'static [Part],
        first: u64,
        count: u64,
        /// As in `errno`.
        code: i32,
        /// Whether what a failed sync should have written is never written, though it is read back: as Linux does.
        forgets: bool,
    },
}

/// What a power cut leaves of what was written since the last sync.
#[derive(Debug)]
pub(super) enum Left<'a> {
    Nothing,
    Everything,
    /// Some writes and not others, some in part; lengths change in order, as journals make them.
    Some(&'a mut StdRng),
}

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<Machine>>);

#[derive(Debug)]
struct Machine {
    /// By part.
    files: [File; 3],
    fault: Fault,
    /// Calls that changed something.
    changes: u64,
    /// All calls.
    calls: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { files: Default::default(), fault: Fault::None, changes: 0, calls: 0 }
    }
}

/// One in its place, and one that is made to get there.
#[derive(Clone, Debug, Default)]
struct File {
    published: Option<Image>,
    draft: Option<Image>,
}

/// Content: what the disk has, what the kernel shows, and the difference as it came.
#[derive(Clone, Debug, Default)]
struct Image {
    disk: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl FaultyDisk {
    pub(super) fn set(&self, fault: Fault) {
        self.machine().fault = fault;
    }

    /// Calls so far that changed the disk, and all calls.
    pub(super) fn counts(&self) -> (u64, u64) {
        let machine = self.machine();
        (machine.changes, machine.calls)
    }

    /// The disk as it is found when the power is back.
    pub(super) fn after_power_cut(&self, mut left: Left<'_>) -> Self {
        let machine = self.machine();
        let mut found = |image: &Option<Image>| {
            image.as_ref().map(|image| {
                let disk = image.after_power_cut(&mut left);
                Image { seen: disk.clone(), disk, unsynced: Vec::new() }
            })
        };
        let files = machine.files.each_ref();
        let files = files.map(|file| File { published: found(&file.published), draft: found(&file.draft) });
        Self(Arc::new(Mutex::new(Machine { files, ..Machine::default() })))
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap()
    }

    fn begin(&self, part: Part) -> io::Result<Handle> {
        let mut machine = self.machine();
        machine.change(part)?;
        machine.file(part).draft = Some(Image::default());
        Ok(Handle { disk: self.clone(), part, draft: true })
    }

    fn handle(&self, part: Part) -> io::Result<Handle> {
        let handle = Handle { disk: self.clone(), part, draft: false };
        let mut machine = self.machine();
        machine.sync(&handle)?;
        let image = machine.image(&handle);
        image.seen = image.disk.clone();
        drop(machine);
        Ok(handle)
    }
}

impl Disk for FaultyDisk {
    fn path(&self) -> &Path {
        Path::new("/faulty/registry.redb")
    }

    fn exists(&self, part: Part) -> io::Result<bool> {
        Ok(self.machine().file(part).published.is_some())
    }

    fn create(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(self.begin(Part::Tables)?)
    }

    fn create_journal(&self, part: Part) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.begin(part)?))
    }

    fn publish(&self, part: Part) -> io::Result<()> {
        let mut machine = self.machine();
        machine.change(part)?;
        let file = machine.file(part);
        file.published = file.draft.take();
        Ok(())
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(self.handle(Part::Tables)?)
    }

    fn open_journal(&self, part: Part) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.handle(part)?))
    }
}

impl Machine {
    fn call(&mut self, part: Part) -> io::Result<()> {
        self.calls += 1;
        match self.fault {
            Fault::PowerCut { at } if self.changes >= at => Err(io::Error::other("the power is off")),
            Fault::Errors { of, first, count, code, .. }
                if of.contains(&part) && (first..first.saturating_add(count)).contains(&self.calls) =>
            {
                Err(io::Error::from_raw_os_error(code))
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, part: Part) -> io::Result<()> {
        let on = !matches!(self.fault, Fault::PowerCut { at } if self.changes >= at);
        self.changes += u64::from(on);
        self.call(part)
    }

    fn sync(&mut self, of: &Handle) -> io::Result<()> {
        let done = self.change(of.part);
        let forgets = matches!(self.fault, Fault::Errors { forgets: true, .. });
        let image = self.image(of);
        if done.is_ok() {
            let changes = std::mem::take(&mut image.unsynced);
            for change in changes {
                change.make(&mut image.disk);
            }
        } else if forgets {
            image.unsynced.clear();
        }
        done
    }

    fn file(&mut self, part: Part) -> &mut File {
        &mut self.files[part as usize]
    }

    fn image(&mut self, of: &Handle) -> &mut Image {
        let file = self.file(of.part);
        let image = if of.draft { &mut file.draft } else { &mut file.published };
        image.as_mut().expect("an open file exists")
    }
}

impl Image {
    fn change(&mut self, change: Change) {
        change.make(&mut self.seen);
        self.unsynced.push(change);
    }

    fn after_power_cut(&self, left: &mut Left<'_>) -> Vec<u8> {
        let mut disk = self.disk.clone();
        match left {
            Left::Nothing => {}
            Left::Everything => self.unsynced.iter().for_each(|change| change.make(&mut disk)),
            Left::Some(rng) => {
                let lengths = rng.random_range(0..=self.unsynced.len());
                let share = [0.1, 0.5, 0.9][rng.random_range(0..3)];
                for (n, change) in self.unsynced.iter().enumerate() {
                    match change {
                        Change::Length(_) if n < lengths => change.make(&mut disk),
                        Change::Write { offset, data } if rng.random_bool(share) => {
                            let whole = rng.random_bool(0.7);
                            let sectors = rng.random_range(0..=data.len() / SECTOR_BYTES);
                            let kept = if whole { data.len() } else { sectors * SECTOR_BYTES };
                            Change::Write { offset: *offset, data: data[..kept].into() }.make(&mut disk);
                        }
                        _ => {}
                    }
                }
            }
        }
        disk
    }
}

impl Change {
    /// What lies beyond the file's end is lost.
    fn make(&self, file: &mut Vec<u8>) {
        match self {
            Self::Length(bytes) => file.resize(*bytes, 0),
            Self::Write { offset, data } => {
                let end = file.len().min(offset + data.len());
                if let Some(place) = file.get_mut(*offset..end) {
                    place.copy_from_slice(&data[..place.len()]);
                }
            }
        }
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    disk: FaultyDisk,
    part: Part,
    draft: bool,
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("files of tests are small")
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.machine().image(self).seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut machine = self.disk.machine();
        machine.call(self.part)?;
        let file = &machine.image(self).seen;
        let found = file.get(size(offset)..size(offset) + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut machine = self.disk.machine();
        let done = machine.change(self.part);
        machine.image(self).change(Change::Length(size(len)));
        done
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.machine().sync(self)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut machine = self.disk.machine();
        let done = machine.change(self.part);
        let image = machine.image(self);
        assert!(size(offset) + data.len() <= image.seen.len(), "a write beyond the file's end");
        image.change(Change::Write { offset: size(offset), data: data.into() });
        done
    }
}
