//! A set of keys that lies elsewhere, in a file or behind a URL, and is kept for a while.
//!
//! Who verifies a token never waits for a set that is merely old: that is read again beside. A key that the set has not
//! may be new, so then it is read again first, but not more often than every so often, since anybody can make up names
//! of keys. Where reading fails the old keys stay, for a day at most, and the log says so.

use super::error::{AuthError, OptionsError};
use super::fetch::{FetchLimits, FetchUrl};
use super::key::{Key, read_set};
use rustls::RootCertStore;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::MutexGuard;
use tracing::{info, warn};

/// Where a set lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    File(PathBuf),
    Url(FetchUrl),
}

impl Place {
    /// Reads a URL, or a path that begins at this folder.
    pub fn parse(text: &str, folder: &Path) -> Result<Place, OptionsError> {
        match text.contains("://") {
            true => Ok(Place::Url(FetchUrl::parse(text)?)),
            false => Ok(Place::File(folder.join(text))),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(formatter, "{}", path.display()),
            Place::Url(url) => write!(formatter, "{}", url.as_uri()),
        }
    }
}

/// How long a set is kept, and how often it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetLimits {
    /// From then on it is read again, beside.
    pub refresh_after: Duration,
    /// From then on it counts no more.
    pub keep_max: Duration,
    /// Between two readings because of a key that it has not.
    pub unknown_pause: Duration,
    /// After a reading that failed.
    pub failure_pause: Duration,
    pub fetch: FetchLimits,
}

impl SetLimits {
    fn of(place: &Place) -> SetLimits {
        SetLimits {
            refresh_after: Duration::from_secs(600),
            keep_max: Duration::from_secs(24 * 3600),
            unknown_pause: match place {
                // Reading it costs nobody else anything.
                Place::File(_) => Duration::from_secs(1),
                Place::Url(_) => Duration::from_secs(30),
            },
            failure_pause: Duration::from_secs(2),
            fetch: FetchLimits { timeout: Duration::from_secs(5), body_bytes_max: 256 << 10 },
        }
    }
}

#[derive(Clone)]
struct Read {
    keys: Arc<[Key]>,
    at: Instant,
}

/// The set.
pub(super) struct KeySet {
    place: Place,
    limits: SetLimits,
    roots: Option<RootCertStore>,
    /// What was read last that could be.
    present: RwLock<Option<Read>>,
    /// When reading was last tried. Whoever holds it reads, for as long as the limits allow; the others wait for what comes
    /// of that.
    tried: tokio::sync::Mutex<Option<Instant>>,
}

impl KeySet {
    /// Returns a set that nobody has read yet.
    pub fn new(place: Place) -> Arc<KeySet> {
        let limits = SetLimits::of(&place);
        KeySet::with(place, limits, None)
    }

    /// Returns one with other limits and authorities.
    pub fn with(place: Place, limits: SetLimits, roots: Option<RootCertStore>) -> Arc<KeySet> {
        let (present, tried) = (RwLock::default(), tokio::sync::Mutex::default());
        Arc::new(KeySet { place, limits, roots, present, tried })
    }

    /// Returns where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the file that it lies in, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Url(_) => None,
        }
    }

    /// Returns the keys of this name, or all where a token names none; having read the set anew where it had no such
    /// key.
    pub async fn find(self: &Arc<Self>, id: Option<&str>) -> Result<Vec<Key>, AuthError> {
        if let Some(read) = self.present() {
            let found = matching(&read.keys, id);
            if !found.is_empty() {
                if read.at.elapsed() >= self.limits.refresh_after {
                    let set = self.clone();
                    tokio::spawn(async move {
                        // Whoever reads it already does it for all.
                        if let Ok(tried) = set.tried.try_lock() {
                            set.read_if_due(tried).await;
                        }
                    });
                }
                return Ok(found);
            }
        }
        // Waits for one reading at most, its own or the one that is under way: then the pause has begun.
        self.read_if_due(self.tried.lock().await).await;
        let read = self.present().ok_or(AuthError::NoKeys)?;
        let found = matching(&read.keys, id);
        if found.is_empty() { Err(AuthError::UnknownKey) } else { Ok(found) }
    }

    /// Reads the set for the first time, so that what is wrong with it shows.
    pub async fn read_now(&self) -> Result<usize, String> {
        let mut tried = self.tried.lock().await;
        let read = self.read().await;
        *tried = Some(Instant::now());
        let count = self.take_in(read?);
        Ok(count)
    }

    /// Returns the keys as long as they count.
    fn present(&self) -> Option<Read> {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.clone().filter(|read| read.at.elapsed() < self.limits.keep_max)
    }

    fn take_in(&self, keys: Vec<Key>) -> usize {
        let count = keys.len();
        let read = Read { keys: keys.into(), at: Instant::now() };
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = Some(read);
        count
    }

    /// Reads the set unless that was tried just now.
    async fn read_if_due(&self, mut tried: MutexGuard<'_, Option<Instant>>) {
        let has_keys = self.present().is_some();
        let pause = match has_keys {
            true => self.limits.unknown_pause,
            false => self.limits.failure_pause,
        };
        if tried.is_some_and(|tried| tried.elapsed() < pause) {
            return;
        }
        let read = self.read().await;
        *tried = Some(Instant::now());
        match read {
            Ok(keys) => {
                let count = self.take_in(keys);
                info!(keys = count, place = %self.place, "the key set was read");
            }
            Err(reason) if has_keys => {
                warn!(reason, place = %self.place, "the key set can't be read: its old keys stay");
            }
            Err(reason) => {
                warn!(reason, place = %self.place, "the key set can't be read: no token counts");
            }
        }
    }

    async fn read(&self) -> Result<Vec<Key>, String> {
        let limits = self.limits.fetch;
        let text = match &self.place {
            Place::Url(url) => url.get(limits, self.roots.as_ref()).await?,
            Place::File(path) => {
                match tokio::time::timeout(limits.timeout, read_file(path, limits)).await {
                    Ok(text) => text.map_err(|error| error.to_string())?.into(),
                    Err(_) => return Err(format!("it did not end within {:?}", limits.timeout)),
                }
            }
        };
        read_set(&text)
    }
}

async fn read_file(path: &Path, limits: FetchLimits) -> std::io::Result<Vec<u8>> {
    let file = tokio::fs::File::open(path).await?;
    let mut text = Vec::new();
    file.take(limits.body_bytes_max as u64 + 1).read_to_end(&mut text).await?;
    match text.len() > limits.body_bytes_max {
        true => Err(std::io::ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}

fn matching(keys: &[Key], id: Option<&str>) -> Vec<Key> {
    let is_meant = |key: &&Key| id.is_none() || key.id.as_deref() == id;
    keys.iter().filter(is_meant).cloned().collect()
}

#[cfg(test)]
mod tests;
