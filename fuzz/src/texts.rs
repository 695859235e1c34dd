//! Texts that a person, a client or a server writes.

use convoy_engine::Digest;
use convoy_types::{DatabaseUrl, Lsn, PgTimestamp, SnapshotMark, Xid};

/// Positions, snapshots, digests, times, and where a database is.
pub fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn));
        let _ = lsn.before_bare_page_header();
    }
    if let Some(digest) = Digest::read(text) {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(mark) = text.parse::<SnapshotMark>() {
        let _ = (mark.shows(mark.xmin), mark.shows(mark.xmax), mark.widen(Xid(3)));
    }
    let _ = PgTimestamp::from_iso_8601(text);
    if let Ok(url) = DatabaseUrl::parse_with_defaults(text, &[("user", "ann")]) {
        // A host that no host could be may not read back; what reads back is the same.
        if let Ok(again) = url.to_url_with_password().parse::<DatabaseUrl>() {
            assert_eq!(again, url);
        }
    }
}
