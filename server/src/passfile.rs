//! The passfile (PostgreSQL manual, 34.16): passwords by host, port, database and role.

use crate::config::variable;
use crate::error::ServerError;
use convoy_types::{DatabaseUrl, Host};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Returns the password that `PGPASSFILE` or `~/.pgpass` has for this database.
///
/// # Errors
/// [`ServerError::Passfile`] where the file is there and can't be read.
pub(crate) fn password(url: &DatabaseUrl) -> Result<Option<String>, ServerError> {
    let named = variable("PGPASSFILE").map(PathBuf::from);
    let Some(path) =
        named.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".pgpass")))
    else {
        return Ok(None);
    };
    let error = |source| ServerError::Passfile { path: path.clone(), source };
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Ok(None),
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        // As libpq does.
        warn!(path = %path.display(), "the passfile is not used, because others may read it: chmod 600 mends it");
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(error)?;
    Ok(url.hosts.iter().find_map(|host| find(&text, host, &url.database, &url.user)))
}

/// Returns the password of the first line that fits.
fn find(text: &str, host: &Host, database: &str, user: &str) -> Option<String> {
    let (name, port) = match host {
        Host::Tcp { name, port } => (name.clone(), port),
        // As libpq has it, the usual folders go by the name of localhost.
        Host::Unix { directory, port } if is_usual(directory) => ("localhost".to_owned(), port),
        Host::Unix { directory, port } => (directory.to_string_lossy().into_owned(), port),
    };
    let wanted = [name.as_str(), &port.to_string(), database, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [host, port, database, user, password] = fields.as_slice() else { return None };
        let fits = [host, port, database, user]
            .iter()
            .zip(wanted)
            .all(|(field, wanted)| field.as_deref().is_none_or(|field| field == wanted));
        if fits { password.clone() } else { None }
    })
}

fn is_usual(directory: &Path) -> bool {
    ["/var/run/postgresql", "/run/postgresql", "/tmp"]
        .iter()
        .any(|usual| directory == Path::new(usual))
}

/// Returns the fields of a line; none for a `*`. A backslash takes the next character as it is; the password's colons
/// need none.
fn fields(line: &str) -> Vec<Option<String>> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => field.extend(characters.next()),
            ':' if fields.len() < 4 => {
                let field = std::mem::take(&mut field);
                fields.push((field != "*").then_some(field));
            }
            c => field.push(c),
        }
    }
    fields.push(Some(field));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# db:5432:shop:ann:comment\nbroken\ndb:5432:other:ann:one\ndb:*:shop:ann:t\\:w:o\\\\\n*:*:*:*:any\n";
        let db = Host::Tcp { name: "db".into(), port: 5433 };
        assert_eq!(find(text, &db, "shop", "ann").as_deref(), Some("t:w:o\\"));
        assert_eq!(find(text, &db, "other", "ann").as_deref(), Some("any"));
        assert_eq!(find("db:5432:*:*:x", &db, "a", "b"), None);
        let socket = Host::Unix { directory: "/tmp".into(), port: 5432 };
        assert_eq!(find("localhost:*:*:*:x", &socket, "a", "b").as_deref(), Some("x"));
    }
}
