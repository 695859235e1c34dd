//! The law: what the panels of one session say of the bank is one and the same state, at every transition.

use super::bank::{TOTAL, counts, is_part_of};
use crate::screen::{Check, Panel, Panels};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// The panels: sums and their parts, some kept from the stream and some read again.
pub const PANELS: [(&str, &str); 8] = [
    ("total", "select sum(balance) as balance, sum(stamp) as stamp, count(*) as n from accounts"),
    ("parts", "select id, branch, balance, stamp from accounts order by id"),
    ("top", "select id, balance, stamp from accounts order by balance desc limit 5"),
    (
        "branches",
        "select branch, sum(balance) as balance, sum(stamp) as stamp, count(*) as n from accounts group by branch",
    ),
    ("wallets", "select sum(balance) as balance, sum(stamp) as stamp from wallets"),
    (
        "joined",
        "select a.id, a.balance, a.stamp, w.balance as kept, w.stamp as kept_stamp \
         from accounts a join wallets w on w.account = a.id",
    ),
    (
        "again",
        "with all_of_them as (select balance, stamp from accounts) \
         select sum(balance) as balance, sum(stamp) as stamp from all_of_them",
    ),
    (
        "ranked",
        "select id, balance, stamp, rank() over (order by balance desc, id) as place from accounts",
    ),
];

/// Every state that any session has shown in all runs of a bank.
#[derive(Clone, Default)]
pub struct States(Arc<Mutex<BTreeSet<i64>>>);

impl States {
    /// Returns a check of one session's states.
    pub fn check(&self) -> Check {
        let (states, mut last) = (self.clone(), 0);
        Box::new(move |panels, transition| {
            let Some(stamps) =
                state(panels).map_err(|problem| format!("{problem}: {transition}"))?
            else {
                return Ok(());
            };
            if !is_part_of(last, stamps) {
                return Err(format!(
                    "{stamps} after {last}: something went back at {}",
                    shortened(transition)
                ));
            }
            last = stamps;
            states.0.lock().expect("nobody panics with it").insert(stamps);
            Ok(())
        })
    }

    /// Checks that all states lie on one line: of any two, one is a part of the other.
    pub fn are_one_line(&self) -> usize {
        let states = self.0.lock().expect("nobody panics with it");
        let mut states: Vec<i64> = states.iter().copied().collect();
        states.sort_by_key(|stamps| counts(*stamps).iter().sum::<i64>());
        for pair in states.windows(2) {
            assert!(
                is_part_of(pair[0], pair[1]),
                "no order of commits has both {:?} and {:?}",
                counts(pair[0]),
                counts(pair[1])
            );
        }
        states.len()
    }
}

/// Returns the state that the panels show, as the sum of its stamps; none while nothing is in the cut.
///
/// # Errors
/// Where two panels disagree.
pub fn state(panels: &Panels) -> Result<Option<i64>, String> {
    let mut seen: Vec<(&str, &str, i64, Option<i64>)> = Vec::new();
    let mut balances = Vec::new();
    for (name, panel) in panels.by_name.iter().filter(|(_, panel)| panel.is_in_cut()) {
        let kind = kind(name);
        let mut sums = |of: &str, stamp: &str, balance: &str| {
            let total = sum(panel, balance);
            balances.push((of.to_owned(), total));
            seen.push((
                name,
                if of == "accounts" { "accounts" } else { "wallets" },
                sum(panel, stamp),
                Some(total),
            ));
        };
        match kind {
            "top" => {}
            "wallets" => sums("wallets", "stamp", "balance"),
            "joined" => {
                sums("accounts", "stamp", "balance");
                sums("wallets", "kept_stamp", "kept");
            }
            _ => sums("accounts", "stamp", "balance"),
        }
    }
    let Some(&(first, _, stamps, _)) = seen.first() else { return Ok(None) };
    for (name, of, other, _) in &seen {
        if *other != stamps {
            return Err(format!(
                "{first} shows the state {:?}, and {name} ({of}) shows {:?}",
                counts(stamps),
                counts(*other)
            ));
        }
    }
    for table in ["accounts", "wallets"] {
        let mut of_it = seen.iter().filter(|(_, of, ..)| *of == table);
        if let Some((name, .., total)) = of_it.next()
            && let Some((other, .., differs)) = of_it.find(|(.., also)| also != total)
        {
            return Err(format!("{name} sums {table} to {total:?}, and {other} to {differs:?}"));
        }
    }
    let of = |table: &str| balances.iter().find(|(of, _)| of == table).map(|(_, total)| *total);
    if let (Some(accounts), Some(wallets)) = (of("accounts"), of("wallets"))
        && accounts + wallets != TOTAL
    {
        return Err(format!("{accounts} and {wallets} are not {TOTAL}"));
    }
    tops_agree(panels)?;
    Ok(Some(stamps))
}

/// Checks the order, and the first rows, against all rows.
fn tops_agree(panels: &Panels) -> Result<(), String> {
    let in_cut = |wanted: &str| {
        let is_it = |(name, panel): &(&String, &Panel)| kind(name) == wanted && panel.is_in_cut();
        panels.by_name.iter().find(is_it).map(|(_, panel)| &panel.shown.rows)
    };
    let Some(parts) = in_cut("parts") else { return Ok(()) };
    let mut parts: Vec<[i64; 3]> = parts
        .iter()
        .map(|row| [-number(&row["balance"]), number(&row["id"]), number(&row["stamp"])])
        .collect();
    parts.sort_unstable();
    let as_shown = |rows: &[Value]| -> Vec<[i64; 3]> {
        rows.iter()
            .map(|row| [-number(&row["balance"]), number(&row["id"]), number(&row["stamp"])])
            .collect()
    };
    if let Some(top) = in_cut("top")
        && as_shown(top) != parts[..5]
    {
        return Err(format!("the first five are {:?}, not {:?}", &parts[..5], as_shown(top)));
    }
    if let Some(ranked) = in_cut("ranked") {
        let mut ranked: Vec<_> = ranked.iter().collect();
        ranked.sort_by_key(|row| number(&row["place"]));
        let ranked: Vec<Value> = ranked.into_iter().cloned().collect();
        if as_shown(&ranked) != parts {
            return Err(format!("ranked {:?}, not {parts:?}", as_shown(&ranked)));
        }
    }
    Ok(())
}

/// A panel's kind: its name, without what tells it from others of its kind.
fn kind(name: &str) -> &str {
    name.split('#').next().unwrap_or(name)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

fn sum(panel: &Panel, column: &str) -> i64 {
    panel.shown.rows.iter().map(|row| number(&row[column])).sum()
}

/// Which panels a transition names, and how.
fn shortened(transition: &Value) -> String {
    let updates = transition["updates"].as_array().into_iter().flatten();
    let updates: Vec<_> =
        updates.map(|update| format!("{} {}", update["sub"], update["type"])).collect();
    format!("{} {updates:?}", transition["lsn"])
}
