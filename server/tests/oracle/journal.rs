//! What each transaction did, as the tables' own triggers wrote it down, and the model made of it: tables of their own in
//! which any set of transactions can be in effect. Nothing of the WAL is asked, and nothing of Convoy.
//!
//! A row is known by its `hid`, which no writer sets. The state after a set of transactions is, for each row, what the
//! entry with the highest number says: numbers are drawn under the row's lock, so for one row they are in the order of
//! the writes, whatever order the set is applied in.

use super::schema::{Table, quoted};
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// Makes the journal.
pub const JOURNAL: &str = r#"
CREATE SCHEMA oracle;
CREATE SCHEMA shadow;
CREATE SEQUENCE oracle.hid;
CREATE TABLE oracle.journal (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(), seq bigserial, rel text NOT NULL, leaf text NOT NULL,
    op text NOT NULL, hid int8, image text);
CREATE INDEX ON oracle.journal (xid);
CREATE FUNCTION oracle.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op = 'TRUNCATE' THEN
        INSERT INTO oracle.journal (rel, leaf, op) VALUES (tg_argv[0], tg_table_name, 'truncate');
    ELSIF tg_op = 'DELETE' THEN
        INSERT INTO oracle.journal (rel, leaf, op, hid) VALUES (tg_argv[0], tg_table_name, 'delete', old.hid);
    ELSE
        INSERT INTO oracle.journal (rel, leaf, op, hid, image)
        VALUES (tg_argv[0], tg_table_name, 'write', new.hid, new::text);
    END IF;
    RETURN NULL;
END $$;
CREATE TABLE oracle.rows (rel text, hid int8, seq int8 NOT NULL, leaf text NOT NULL, PRIMARY KEY (rel, hid));
CREATE TABLE oracle.truncated (leaf text PRIMARY KEY, seq int8 NOT NULL);
CREATE FUNCTION oracle.apply(which text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    entry oracle.journal;
    columns text;
BEGIN
    FOR entry IN SELECT * FROM oracle.journal WHERE xid = which::xid8 ORDER BY seq LOOP
        IF entry.op = 'truncate' THEN
            EXECUTE format('DELETE FROM shadow.%I WHERE hid IN
                (SELECT hid FROM oracle.rows WHERE rel = $1 AND leaf = $2 AND seq < $3)', entry.rel)
                USING entry.rel, entry.leaf, entry.seq;
            INSERT INTO oracle.truncated AS t VALUES (entry.leaf, entry.seq)
                ON CONFLICT (leaf) DO UPDATE SET seq = greatest(t.seq, excluded.seq);
            CONTINUE;
        END IF;
        INSERT INTO oracle.rows AS r VALUES (entry.rel, entry.hid, entry.seq, entry.leaf)
            ON CONFLICT (rel, hid) DO UPDATE SET seq = excluded.seq, leaf = excluded.leaf WHERE r.seq < excluded.seq;
        CONTINUE WHEN NOT FOUND;
        EXECUTE format('DELETE FROM shadow.%I WHERE hid = $1', entry.rel) USING entry.hid;
        CONTINUE WHEN entry.op = 'delete'
            OR EXISTS (SELECT FROM oracle.truncated t WHERE t.leaf = entry.leaf AND t.seq > entry.seq);
        SELECT string_agg(quote_ident(attname), ', ') INTO columns FROM pg_attribute
            WHERE attrelid = format('shadow.%I', entry.rel)::regclass AND attnum > 0 AND attgenerated = '';
        EXECUTE format('INSERT INTO shadow.%I (%s) SELECT %s FROM (SELECT ($1::public.%I).*) AS row',
            entry.rel, columns, columns, entry.leaf) USING entry.image;
    END LOOP;
END $$;
"#;

/// Returns what lets a table's changes be written down, and makes its shadow.
pub fn observe(name: &str, leaves: &[String]) -> String {
    let (table, literal) = (quoted(name), format!("'{}'", name.replace('\'', "''")));
    let mut sql = format!(
        "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW \
         EXECUTE FUNCTION oracle.note({literal}); \
         CREATE TABLE shadow.{table} (LIKE public.{table} INCLUDING GENERATED); \
         CREATE INDEX ON shadow.{table} (hid);"
    );
    for leaf in leaves {
        sql.push_str(&format!(
            "CREATE TRIGGER note_truncate AFTER TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION oracle.note({literal});",
            quoted(leaf)
        ));
    }
    sql
}

/// The model: shadows of the tables with a set of transactions in effect.
pub struct Model {
    client: Client,
    applied: BTreeSet<u64>,
    journaled: BTreeSet<u64>,
}

impl Model {
    /// Returns the model with no transaction in effect. The writers must have ended.
    pub async fn new(client: Client) -> Model {
        // The planner would not know otherwise that the journal is long; nobody needs it to survive.
        client
            .batch_execute("SET search_path = shadow, public; SET synchronous_commit = off; SET jit = off; ANALYZE oracle.journal")
            .await
            .expect("the model's session");
        let rows = client
            .query("SELECT DISTINCT xid::text FROM oracle.journal", &[])
            .await
            .expect("the journal");
        let journaled = rows
            .iter()
            .map(|row| row.get::<_, &str>(0).parse().expect("a transaction id"))
            .collect();
        Model { client, applied: BTreeSet::new(), journaled }
    }

    /// Returns the session that reads the shadows.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns every transaction that wrote something.
    pub fn journaled(&self) -> &BTreeSet<u64> {
        &self.journaled
    }

    /// Adds transactions to those in effect.
    pub async fn apply(&mut self, xids: impl IntoIterator<Item = u64>) {
        for xid in xids {
            if self.journaled.contains(&xid) && self.applied.insert(xid) {
                let applied =
                    self.client.execute("SELECT oracle.apply($1)", &[&xid.to_string()]).await;
                applied.unwrap_or_else(|error| panic!("the model can't apply {xid}: {error:?}"));
            }
        }
    }

    /// Returns the tables whose shadows differ from them, once everything is in effect.
    pub async fn differing(&self, tables: &[Table]) -> Vec<String> {
        let mut differing = Vec::new();
        let names = tables.iter().map(|table| table.name.as_str()).chain(["accounts"]);
        for name in names {
            let table = quoted(name);
            let sql = format!(
                "SELECT count(*) FROM (SELECT hid, to_jsonb(t) j FROM public.{table} t) a \
                 FULL JOIN (SELECT hid, to_jsonb(t) j FROM shadow.{table} t) b USING (hid) \
                 WHERE a.j IS DISTINCT FROM b.j"
            );
            let count: i64 = self.client.query_one(&sql, &[]).await.expect("a comparison").get(0);
            if count > 0 {
                differing.push(format!("{name}: {count} rows"));
            }
        }
        differing
    }
}
