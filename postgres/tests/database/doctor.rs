//! The checks of a database, and what a server says that can't start on it.

use super::harness::client;
use convoy_postgres::doctor::{self, CheckStatus, PreflightError};
use convoy_postgres::launcher::PrivatePostgres;
use convoy_postgres::{SessionOptions, testing};
use convoy_types::DatabaseUrl;

fn parsed(url: &str) -> DatabaseUrl {
    url.parse().expect("a URL")
}

#[tokio::test]
async fn p1_doctor_names_what_to_mend_and_cleans() {
    let url = testing::shared().await.database("doctor").await;
    let admin = client(&url).await;
    let script = "create table bare (x int); create publication convoy_full; \
                  create publication convoy_ins with (publish = 'insert, truncate')";
    admin.batch_execute(script).await.expect("the script");
    let slot = "select pg_create_logical_replication_slot('convoy_left_behind', 'pgoutput')";
    admin.batch_execute(slot).await.expect("a slot");
    let url = parsed(&url);
    let session = SessionOptions::default();
    doctor::preflight(&url, &session).await.expect("a fit database");
    let checks = doctor::examine(&url, &session).await;
    assert!(checks.iter().all(|check| check.status != CheckStatus::Fail), "{checks:?}");
    let fix_of = |name: &str| {
        let check = checks.iter().find(|check| check.name == name).expect(name);
        assert_eq!(check.status, CheckStatus::Warn, "{check:?}");
        check.fix.clone()
    };
    assert!(
        fix_of("replica identity")
            .contains("ALTER TABLE \"public\".\"bare\" REPLICA IDENTITY FULL")
    );
    assert!(fix_of("slot").contains("pg_drop_replication_slot('convoy_left_behind')"));
    assert_eq!(doctor::clean(&url, &session).await.expect("cleaned").len(), 3);
    assert!(doctor::clean(&url, &session).await.expect("clean").is_empty());
}

#[tokio::test]
async fn p1_doctor_names_the_rights_that_are_missing() {
    let url = testing::shared().await.database("doctor_rights").await;
    let admin = client(&url).await;
    for role in ["convoy_reader login", "convoy_owner"] {
        let script = format!(
            "do $$ begin create role {role}; exception when duplicate_object then null; end $$"
        );
        admin.batch_execute(&script).await.expect("a role");
    }
    let script = "create table \"Their s\" (x int primary key); alter table \"Their s\" owner to convoy_owner; \
                  create table root (x int); create table parts (x int primary key) partition by list (x); \
                  create table part partition of parts for values in (1); \
                  grant select on root, parts to convoy_reader; \
                  create publication convoy_full for table parts";
    admin.batch_execute(script).await.expect("the script");
    let mut url = parsed(&url);
    url.user = "convoy_reader".into();
    let session = SessionOptions::default();
    let of_tables = async || {
        let checks = doctor::examine(&url, &session).await;
        checks.into_iter().find(|check| check.name == "tables").expect("the check")
    };
    let check = of_tables().await;
    assert_eq!(check.status, CheckStatus::Warn, "{check:?}");
    let lines: Vec<_> = check.fix.lines().collect();
    assert_eq!(
        lines,
        [
            "GRANT SELECT ON \"public\".\"Their s\" TO convoy_reader;",
            "GRANT \"convoy_owner\" TO convoy_reader; -- or, as a superuser, once convoy serve has run: \
             ALTER PUBLICATION convoy_full ADD TABLE ONLY \"public\".\"Their s\";",
            "ALTER PUBLICATION convoy_ins ADD TABLE ONLY \"public\".\"root\"; -- as a superuser, once convoy serve \
             has run",
        ]
    );
    // What it says mends it.
    let script = "create publication convoy_ins with (publish = 'insert, truncate')";
    admin.batch_execute(script).await.expect("a publication");
    admin.batch_execute(&check.fix).await.expect("the fix");
    assert_eq!(of_tables().await.status, CheckStatus::Ok);
}

#[tokio::test]
async fn preflight_names_the_sql() {
    let mut options = testing::options();
    options.settings.push(("wal_level".into(), "replica".into()));
    let server = PrivatePostgres::start(options).await.expect("a server");
    let url = parsed(&server.url("postgres"));
    let error = doctor::preflight(&url, &SessionOptions::default()).await.expect_err("wal_level");
    assert!(error.to_string().contains("ALTER SYSTEM SET wal_level = 'logical'"), "{error}");

    let url = testing::shared().await.database("preflight").await;
    let script = "do $$ begin create role convoy_plain login; exception when duplicate_object then null; end $$";
    client(&url).await.batch_execute(script).await.expect("a role");
    let mut url = parsed(&url);
    url.user = "convoy_plain".into();
    let error = doctor::preflight(&url, &SessionOptions::default()).await.expect_err("no right");
    assert!(error.to_string().contains("ALTER ROLE \"convoy_plain\" REPLICATION"), "{error}");
    url.user = "convoy_nobody".into();
    let error = doctor::preflight(&url, &SessionOptions::default()).await.expect_err("no role");
    assert!(matches!(error, PreflightError::Unreachable { .. }));
    assert!(error.to_string().contains("convoy_nobody"), "{error}");
}
