//! The dashboard's panels: live queries like any other, and what the page is told about them and about the demo.

use crate::app::App;
use crate::reply;
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use serde_json::json;

/// A panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    /// What the page knows it by, and the name of its subscription.
    pub id: &'static str,
    /// Its query.
    pub sql: &'static str,
}

/// The panels, in the order of the page.
pub(crate) const PANELS: [Panel; 5] = [
    Panel { id: "totals", sql: include_str!("../../assets/panels/totals.sql") },
    Panel { id: "latest", sql: include_str!("../../assets/panels/latest.sql") },
    Panel { id: "minutes", sql: include_str!("../../assets/panels/minutes.sql") },
    Panel { id: "revenue", sql: include_str!("../../assets/panels/revenue.sql") },
    Panel { id: "low_stock", sql: include_str!("../../assets/panels/low_stock.sql") },
];

/// Lines for a shell, as the terminal and the page show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipes {
    /// Watches a query.
    pub watch: String,
    /// Changes a row.
    pub change: String,
    /// Serves a database of one's own.
    pub own: String,
}

/// Returns `GET /demo/panels.json`.
pub(crate) fn route(recipes: &Recipes) -> Router<App> {
    let panels: Vec<_> =
        PANELS.iter().map(|panel| json!({"id": panel.id, "sql": panel.sql.trim_end()})).collect();
    let body = json!({
        "panels": panels,
        "curl": recipes.watch,
        "change": recipes.change,
        "own": recipes.own,
    });
    let body = Bytes::from(body.to_string());
    Router::new().route("/demo/panels.json", get(async move || reply::json(body)))
}

/// Returns the lines for a server at this address, as whoever typed `program` would type them.
pub(crate) fn recipes(origin: &str, psql: Option<String>, program: &str) -> Recipes {
    let sql = "select id, region, status, total from orders order by id desc limit 5";
    // A query string takes + for a blank (WHATWG URL, 5.1), and is easier to read with it.
    let watch = format!("curl -N '{origin}/api/sql?sql={}'", sql.replace(' ', "+"));
    let change = match psql {
        Some(psql) => format!("{psql} -c \"{NEWEST_ORDER_DEARER}\""),
        None => format!("curl -X POST {origin}/demo/change"),
    };
    let own = format!(
        "{program} serve --allow-sql --database-url postgres://USER:PASSWORD@HOST/DATABASE"
    );
    Recipes { watch, change, own }
}

/// A change that shows in most panels, wherever the writer has got to.
const NEWEST_ORDER_DEARER: &str =
    "update orders set total = total + 100 where id = (select max(id) from orders)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_work_as_they_are_pasted() {
        let lines = recipes("http://127.0.0.1:4500", Some("psql shop".into()), "convoy");
        assert!(lines.watch.starts_with("curl -N 'http://127.0.0.1:4500/api/sql?sql=select+id,"));
        // Nothing in a query string that would have to be encoded, nothing that ends the quotes.
        let query = lines.watch.split_once("sql?sql=").expect("a query").1.trim_end_matches('\'');
        assert!(
            query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+,_".contains(&byte)),
            "{query}"
        );
        assert!(lines.change.starts_with("psql shop -c \"update orders"));
        let without = recipes("http://127.0.0.1:4500", None, "convoy");
        assert_eq!(without.change, "curl -X POST http://127.0.0.1:4500/demo/change");
    }

    #[test]
    fn each_panel_has_its_section_in_the_page() {
        let page = include_str!("../../assets/demo.html");
        for panel in PANELS {
            assert!(page.contains(&format!("data-panel=\"{}\"", panel.id)), "{}", panel.id);
        }
    }
}
