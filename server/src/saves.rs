//! A project's folder, watched: each save is told once.

use crate::error::ServerError;
use crate::project::root;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// Editors save in several steps: what comes so soon after a change is the same save.
const ONE_SAVE: Duration = Duration::from_millis(30);

/// The saves of a project.
pub(crate) struct Saves {
    changes: mpsc::Receiver<PathBuf>,
    /// A change that was heard of, and when its save counts as over.
    begun: Option<(PathBuf, Instant)>,
    /// The project's folder, in which its root may come later, and the root that is watched.
    folder: PathBuf,
    watched: PathBuf,
    watcher: RecommendedWatcher,
}

impl Saves {
    /// Watches a project's folder.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn of(folder: &Path) -> Result<Saves, ServerError> {
        let failed = |error: notify::Error| ServerError::System {
            doing: "watching the project's folder",
            source: std::io::Error::other(error),
        };
        // Changes are told by absolute paths.
        let folder = std::path::absolute(folder).map_err(|error| failed(error.into()))?;
        let root = root(&folder);
        let (sender, changes) = mpsc::channel(256);
        let above = folder.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            for path in event.paths.into_iter().filter(|path| matters(&above, path)) {
                // One that waits says enough.
                let _ = sender.try_send(path);
            }
        })
        .map_err(failed)?;
        watcher.watch(&root, RecursiveMode::Recursive).map_err(failed)?;
        Ok(Saves { changes, begun: None, folder, watched: root, watcher })
    }

    /// Watches the root that the project has by now, and no longer all that lies about it.
    fn follow(&mut self) {
        let root = root(&self.folder);
        if root == self.watched {
            return;
        }
        // It may be gone, which is why there is another.
        let _ = self.watcher.unwatch(&self.watched);
        match self.watcher.watch(&root, RecursiveMode::Recursive) {
            Ok(()) => self.watched = root,
            Err(error) => warn!(%error, folder = %root.display(), "the project can't be watched"),
        }
    }

    /// Waits for the next save; returns a file of it. Nothing is lost where it is no longer waited for.
    pub async fn next(&mut self) -> PathBuf {
        loop {
            if let Some((_, over)) = &self.begun {
                sleep_until(*over).await;
                while self.changes.try_recv().is_ok() {}
                if let Some((path, _)) = self.begun.take() {
                    self.follow();
                    return path;
                }
            }
            match self.changes.recv().await {
                Some(path) => self.begun = Some((path, Instant::now() + ONE_SAVE)),
                None => std::future::pending().await,
            }
        }
    }
}

/// Returns whether a file is one that the project is made of, and not one that is made of it.
fn matters(root: &Path, path: &Path) -> bool {
    // What the folders above are called is none of its business.
    let path = path.strip_prefix(root).unwrap_or(path);
    let is_ours = |part: &OsStr| {
        let part = part.to_string_lossy();
        part == "_generated" || part == "node_modules" || part.starts_with('.')
    };
    let extension = path.extension().and_then(OsStr::to_str);
    !path.iter().any(is_ours)
        && matches!(extension, None | Some("ts" | "tsx" | "js" | "mjs" | "json" | "sql"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_no_save() {
        let root = Path::new("/home/.hidden/node_modules/p/convoy");
        for path in ["functions/a.ts", "queries/b/c.sql", "functions"] {
            assert!(matters(root, &root.join(path)), "{path}");
        }
        for path in [
            "_generated/api.ts",
            "functions/.a.ts.swp",
            "functions/a.ts~",
            "node_modules/zod/index.js",
        ] {
            assert!(!matters(root, &root.join(path)), "{path}");
        }
    }
}
