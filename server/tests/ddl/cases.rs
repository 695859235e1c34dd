//! The cases.

use super::case::{Case, Then};

/// What changes nothing that anybody reads.
const fn noticed_by_nobody(name: &'static str, ddl: &'static str) -> Case {
    Case::of(name, ddl)
}

const NONE: &[&str] = &[];

/// Queries of a column that goes.
const OF_B: &[&str] = &[
    "select id, b from {t} where id between 1 and 9 order by id",
    "select count(*) as n, sum(b) as b from {t} where id between 1 and 9",
    "select id from {t} where b > 2 and id < 10 order by id",
    "with few as (select * from {t} where id between 1 and 9) select sum(b) as b from few",
];

/// Queries that go by the order of texts, of which `a B c` and `B a c` are two.
const BY_NOTE: &[&str] = &[
    "select id, note from {t} where id between 1 and 9 order by note",
    "select id, note from {t} where id between 1 and 9 order by note desc limit 3",
    "select id from {t} where id < 10 and note > 'B' order by id",
    "select max(note) as m, min(note) as n from {t} where id between 1 and 9",
];

const LETTERS: &str = "update {t} set note = ('{x,a,B,c,C,d}'::text[])[id + 1] where id > 0";

const LETTERS_IN_ENGLISH: &str = "alter table {t} alter column note type text collate \"en-x-icu\"; \
                                  update {t} set note = ('{x,a,B,c,C,d}'::text[])[id + 1] where id > 0";

const OF_ALL: &[&str] = &[
    "select * from {t} where id between 1 and 9 order by id",
    "select x.* from {t} x join other on other.id = x.a where x.id between 1 and 9",
];

pub const CASES: &[Case] = &[
    noticed_by_nobody(
        "an index is made and dropped",
        "create index on {t} (b); create unique index {t}_u on {t} (id, a); drop index {t}_u",
    ),
    noticed_by_nobody(
        "a default is set",
        "alter table {t} alter column note set default 'none'; alter table {t} alter column b set default 7",
    ),
    noticed_by_nobody(
        "it is analysed, and vacuumed in place",
        "analyze {t}; comment on table {t} is 'x'; alter table {t} set (fillfactor = 80)",
    ),
    noticed_by_nobody(
        "a right of another role",
        "do $$ begin create role ddl_somebody; exception when duplicate_object or unique_violation then null; end $$; grant select, update on {t} to ddl_somebody; grant select (a) on {t} to ddl_somebody; revoke all on {t} from ddl_somebody",
    ),
    noticed_by_nobody(
        "a constraint",
        "alter table {t} add check (id <> 0) not valid; alter table {t} alter column id set not null",
    ),
    noticed_by_nobody(
        "a column of no interest comes",
        "alter table {t} add column more int4 default 5",
    ),
    noticed_by_nobody("rewritten by vacuum", "vacuum full {t}"),
    noticed_by_nobody("clustered", "cluster {t} using {t}_pkey"),
    noticed_by_nobody(
        "row security that does not apply",
        "alter table {t} enable row level security; create policy p on {t} using (id > 3); drop policy p on {t}; alter table {t} disable row level security",
    ),
    noticed_by_nobody(
        "statistics",
        "alter table {t} alter column b set statistics 200; create statistics {t}_s on a, b from {t}",
    ),
    Case {
        concerned: OF_ALL,
        ..Case::of("a column comes", "alter table {t} add column more text default 'more'")
    },
    Case {
        concerned: OF_ALL,
        last: "insert into {t} (id, a) values (9, 9)",
        keeps_b: false,
        ..Case::of("a column goes", "alter table {t} drop column b")
    },
    Case {
        concerned: OF_B,
        then: Then::Error("\"b\" does not exist"),
        undo: "alter table {t} rename column c to b",
        ..Case::of("a column is renamed and back", "alter table {t} rename column b to c")
    },
    Case {
        concerned: OF_B,
        then: Then::Error("\"b\" does not exist"),
        undo: "alter table {t} add column b int4 default 4",
        ..Case::of("a column goes and comes again", "alter table {t} drop column b")
    },
    Case {
        concerned: OF_B,
        last: "insert into {t} (id, a, b) values (9, 9, 9000000000)",
        ..Case::of("a column gets a wider type", "alter table {t} alter column b type int8")
    },
    Case {
        concerned: &[
            "select id, note from {t} where id between 1 and 9 order by id",
            "select max(note) as m, count(*) as n from {t} where id between 1 and 9",
        ],
        last: "insert into {t} (id, a, note) values (9, 9, 9)",
        ..Case::of(
            "a column gets another type",
            "alter table {t} alter column note type int4 using id",
        )
    },
    Case {
        concerned: &[
            "select id, b from {t} where id between 1 and 9 order by id",
            "select id, b from {t} where id < 10 and id > 0 order by b desc limit 3",
        ],
        last: "insert into {t} (id, a, b) values (9, 9, 'no \"number\"')",
        ..Case::of(
            "a number becomes text",
            "alter table {t} alter column b type text; update {t} set b = 'w\"' where id = 2",
        )
    },
    Case {
        calm: NONE,
        concerned: &[
            "select id, a as x from {t} where id between 1 and 9 order by id",
            "select sum(b) as b from {t} where id between 1 and 9",
        ],
        ..Case::of(
            "two columns change their names",
            "alter table {t} rename column a to c; alter table {t} rename column b to a; alter table {t} rename column c to b; update {t} set a = 70 where id = 2",
        )
    },
    Case {
        calm: NONE,
        then: Then::Error("does not exist"),
        undo: "alter table {t}_away rename to {t}",
        ..Case::of("renamed and back", "alter table {t} rename to {t}_away")
    },
    Case {
        calm: NONE,
        ..Case::of(
            "another in its place",
            "create table {t}_new (like {t} including all); alter table {t}_new replica identity full; insert into {t}_new select id, a, b * 2, note from {t} where id < 4; begin; alter table {t} rename to {t}_old; alter table {t}_new rename to {t}; commit",
        )
    },
    Case {
        calm: NONE,
        ..Case::of(
            "dropped and made at once",
            "begin; drop table {t}; create table {t} (id int4 primary key, a int4, b int4, note text); insert into {t} values (2, 2, 2, 'new'); commit",
        )
    },
    Case {
        calm: NONE,
        then: Then::Error("does not exist"),
        undo: "create table {t} (note text, b int4, a int4, id int4 primary key); insert into {t} (id, a, b) values (3, 3, 3)",
        ..Case::of("dropped and made later", "drop table {t}")
    },
    Case {
        calm: NONE,
        then: Then::Error("does not exist"),
        undo: "drop schema {t}_else cascade; create table {t} (id int4 primary key, a int4, b int4, note text)",
        ..Case::of(
            "moved to another schema",
            "create schema {t}_else; alter table {t} set schema {t}_else",
        )
    },
    Case {
        calm: NONE,
        before: "create schema if not exists \"postgres\"",
        ..Case::of(
            "one that comes earlier in the search path",
            "begin; create table \"postgres\".{t} (like public.{t} including all); alter table \"postgres\".{t} replica identity full; insert into \"postgres\".{t} values (4, 4, 4, 'earlier'); commit",
        )
    },
    Case {
        calm: NONE,
        ..Case::of("truncated", "truncate {t}; insert into {t} values (4, 4, 4, 'after')")
    },
    noticed_by_nobody("another identity, by its key", "alter table {t} replica identity default"),
    noticed_by_nobody(
        "another identity, by an index",
        "create unique index {t}_i on {t} (id); alter table {t} replica identity using index {t}_i",
    ),
    Case {
        calm: NONE,
        blocks_writes: true,
        then: Then::Error("replica identity"),
        undo: "alter table {t} replica identity full",
        ..Case::of("no identity and back", "alter table {t} replica identity nothing")
    },
    Case {
        calm: NONE,
        blocks_writes: true,
        before: "alter table {t} replica identity default",
        then: Then::Error("replica identity"),
        undo: "alter table {t} add primary key (id)",
        ..Case::of("the key goes and comes", "alter table {t} drop constraint {t}_pkey")
    },
    Case {
        calm: NONE,
        concerned: OF_ALL,
        ..Case::of(
            "the key goes where old rows are whole",
            "alter table {t} drop constraint {t}_pkey",
        )
    },
    Case {
        concerned: &[
            "select id, m from {t} where id between 1 and 9 order by id",
            "select m, count(*) as n from {t} where id between 1 and 9 group by m",
        ],
        before: "create type {t}_m as enum ('glad', 'sad'); alter table {t} add column m {t}_m default 'glad'",
        last: "insert into {t} (id, a, b, m) values (9, 9, 9, 'new')",
        ..Case::of(
            "labels of an enum",
            "alter type {t}_m rename value 'glad' to 'merry'; alter type {t}_m add value 'new' before 'sad'",
        )
    },
    Case {
        concerned: &[
            "select id, m from {t} where id between 1 and 9 order by id",
            "select count(*) as n from {t} where m = 'glad' and id < 10",
        ],
        before: "create type {t}_m as enum ('glad', 'sad'); alter table {t} add column m {t}_m default 'glad'",
        last: "insert into {t} (id, a, b, m) values (9, 9, 9, 'glad')",
        ..Case::of("an enum gets another name", "alter type {t}_m rename to {t}_n")
    },
    Case {
        concerned: &[
            "select id, d from {t} where id between 1 and 9 order by id",
            "select d, count(*) as n from {t} where id between 1 and 9 group by d",
        ],
        before: "create domain {t}_d as int4; alter table {t} add column d {t}_d default 3",
        last: "insert into {t} (id, a, b, d) values (9, 9, 9, 8)",
        ..Case::of(
            "a domain",
            "alter domain {t}_d add constraint c check (value > 0) not valid; alter domain {t}_d set default 5; alter domain {t}_d rename to {t}_e",
        )
    },
    Case {
        concerned: &[
            "select id, b from {t}_v order by id",
            "select count(*) as n, sum(b) as b from {t}_v",
        ],
        before: "create view {t}_v as select id, b from {t} where id between 1 and 9",
        ..Case::of(
            "a view is replaced",
            "create or replace view {t}_v as select id, b * 2 as b from {t} where id between 2 and 9",
        )
    },
    Case {
        concerned: &["select id, b from {t}_v order by id"],
        before: "create view {t}_v as select id, b from {t} where id between 1 and 9",
        then: Then::Error("does not exist"),
        undo: "create view {t}_v as select id, a as b from {t} where id between 1 and 9",
        ..Case::of("a view goes and comes", "drop view {t}_v")
    },
    Case {
        concerned: &["select id, g from {t} where id between 1 and 9 order by id"],
        ..Case::of(
            "a generated column becomes a plain one",
            "alter table {t} alter column g drop expression; update {t} set g = -1 where id = 3",
        )
        .with_generated()
    },
    Case {
        concerned: BY_NOTE,
        before: LETTERS,
        last: "insert into {t} (id, a, note) values (9, 9, 'b')",
        ..Case::of(
            "another collation",
            "alter table {t} alter column note type text collate \"en-x-icu\"; update {t} set note = 'D' where id = 5",
        )
    },
    Case {
        concerned: BY_NOTE,
        before: LETTERS_IN_ENGLISH,
        last: "insert into {t} (id, a, note) values (9, 9, 'b')",
        ..Case::of(
            "the collation of bytes",
            "alter table {t} alter column note type text collate \"C\"; update {t} set note = 'D' where id = 5",
        )
    },
    Case {
        calm: &["select id, b from {t}_p where id < 0"],
        concerned: &[
            "select id, b from {t}_p where id between 1 and 99 order by id",
            "select count(*) as n, sum(b) as b from {t}_p where id between 1 and 99",
        ],
        before: "create table {t}_p (b int4, id int4 primary key) partition by range (id); create table {t}_p1 partition of {t}_p for values from (-10) to (10); insert into {t}_p values (1, 1), (-1, -1); create table {t}_p2 (id int4 not null, b int4); insert into {t}_p2 values (12, 2), (13, 3)",
        last: "insert into {t}_p values (14, 14); update {t}_p set b = 100 where id = 12",
        writes: &[
            "update {t}_p set b = {n} where id in (1, 12)",
            "update {t}_p2 set b = {n} where id = 13",
        ],
        ..Case::of(
            "a partition is attached",
            "alter table {t}_p attach partition {t}_p2 for values from (10) to (20); insert into {t}_p values (5, 15)",
        )
    },
    Case {
        calm: &["select id, b from {t}_p where id < 0"],
        concerned: &[
            "select id, b from {t}_p where id between 1 and 99 order by id",
            "select count(*) as n, sum(b) as b from {t}_p where id between 1 and 99",
        ],
        before: "create table {t}_p (b int4, id int4 primary key) partition by range (id); create table {t}_p1 partition of {t}_p for values from (-10) to (10); create table {t}_p2 partition of {t}_p for values from (10) to (20); insert into {t}_p values (1, 1), (-1, -1), (12, 12)",
        last: "update {t}_p set b = 100 where id = 1",
        writes: &[
            "update {t}_p set b = {n} where id in (1, 12)",
            "update {t}_p2 set b = {n} where id = 12",
        ],
        ..Case::of(
            "a partition is detached",
            "alter table {t}_p detach partition {t}_p2; update {t}_p2 set b = 77",
        )
    },
    Case {
        calm: &["select id, b from {t}_p where id < 0"],
        concerned: &[
            "select id, b from {t}_p where id between 1 and 99 order by id",
            "select count(*) as n, sum(b) as b from {t}_p where id between 1 and 99",
        ],
        before: "create table {t}_p (b int4, id int4 primary key) partition by range (id); create table {t}_p1 partition of {t}_p for values from (-10) to (10); insert into {t}_p values (1, 1), (-1, -1)",
        last: "delete from {t}_p where id = 15",
        writes: &[
            "update {t}_p set b = {n} where id in (1, 16)",
            "insert into {t}_p (id, b) values (17, {n}) on conflict (id) do update set b = excluded.b",
        ],
        ..Case::of(
            "a partition is made",
            "create table {t}_p2 partition of {t}_p for values from (10) to (20); insert into {t}_p values (5, 15), (6, 16)",
        )
    },
    Case {
        calm: NONE,
        concerned: &["select id from {t}_c where id between 1 and 99 order by id"],
        before: "create table {t}_c (id int4 primary key); insert into {t}_c values (1), (-1)",
        last: "insert into {t}_d values (21)",
        writes: &[
            "insert into {t}_c values (30 + {n} % 5); delete from {t}_c where id = 30 + ({n} + 3) % 5",
            "insert into {t}_d values (40 + {n} % 5); delete from {t}_c where id = 40 + ({n} + 3) % 5",
        ],
        ..Case::of(
            "a child inherits",
            "create table {t}_d (primary key (id)) inherits ({t}_c); insert into {t}_d values (20)",
        )
    },
    Case {
        concerned: &[
            "select tableless.n from (select count(*) as n from {t} where id between 1 and 9) as tableless",
        ],
        ..Case::of(
            "many at once",
            "alter table {t} add column x1 int4; alter table {t} drop column x1; alter table {t} rename column note to remark; alter table {t} rename column remark to note; alter table {t} replica identity default; alter table {t} replica identity full",
        )
    },
];

impl Case {
    /// With a generated column.
    const fn with_generated(self) -> Case {
        Case {
            before: "alter table {t} add column g int4 generated always as (id * 2) stored",
            ..self
        }
    }
}
