//! Evaluates the formulas of scaling records as a reader with a pocket calculator would.
//!
//! Units are words and are skipped: `ceil(17.3 in flight ÷ (0.7 × 4)) = 7`. Written apart from
//! the code that makes the formulas, so that a mistake there is not repeated here.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

/// Checks the arithmetic of a record: each formula gives the number behind its `=`, that is what
/// the policy wanted, and from the winner's wish the stages lead, one by one, to the new size.
#[track_caller]
pub fn check(record: &Value) {
    for proposal in record["proposals"].as_array().expect("a list") {
        if proposal["valid"] == false {
            continue;
        }
        let formula = proposal["formula"].as_str().expect("a text");
        let (value, result) = evaluate(formula);
        assert_eq!(value.round() as u64, result, "{formula}: {value}");
        assert!((value - value.round()).abs() < 1e-6, "{formula} is {value}: no whole number");
        assert_eq!(proposal["wanted"], result, "{proposal}");
        assert!(proposal["wanted"] == proposal["n"] || !proposal["held"].is_null(), "{proposal}");
    }
    if record["action"]["kind"] != "scale" {
        return;
    }
    let winner = record["proposals"].as_array().and_then(|proposals| {
        proposals.iter().find(|proposal| proposal["policy"] == record["winner"])
    });
    let mut number = winner.unwrap_or_else(|| panic!("no winner: {record}"))["n"].clone();
    // What may start at once is no matter of the size.
    let steps = record["steps"].as_array().expect("a list").iter();
    for step in steps.filter(|step| step["stage"] != "surge") {
        assert_eq!(step["in"], number, "{record}");
        number = step["out"].clone();
    }
    assert_eq!(record["action"]["to"], number, "{record}");
}

/// The value of the left side, and the number on the right.
#[track_caller]
pub fn evaluate(formula: &str) -> (f64, u64) {
    let (left, right) = formula.rsplit_once(" = ").expect("a formula has a result");
    let mut reader = Reader { rest: left.chars().peekable() };
    let value = reader.sum();
    assert_eq!(reader.next(), None, "all of {formula} is read");
    (value, right.parse().expect("a whole number"))
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn sum(&mut self) -> f64 {
        let mut value = self.product();
        loop {
            match self.next() {
                Some('+') => value += self.taken().product(),
                Some('−') => value -= self.taken().product(),
                _ => return value,
            }
        }
    }

    fn product(&mut self) -> f64 {
        let mut value = self.one();
        loop {
            match self.next() {
                Some('×') => value *= self.taken().one(),
                Some('÷') => value /= self.taken().one(),
                _ => return value,
            }
        }
    }

    /// A number, a pair of parentheses, `ceil(…)`, `max(…, …)` or `min(…, …)`.
    fn one(&mut self) -> f64 {
        match self.next() {
            Some('c') => self.arguments("ceil(")[0].ceil_of_decimals(),
            Some('m') => match self.taken().rest.peek() {
                Some('i') => self.arguments("in(").into_iter().fold(f64::INFINITY, f64::min),
                _ => self.arguments("ax(").into_iter().fold(f64::NEG_INFINITY, f64::max),
            },
            Some('(') => self.arguments("(")[0],
            _ => {
                let mut digits = String::new();
                while let Some(c) = self.rest.next_if(|c| c.is_ascii_digit() || *c == '.') {
                    digits.push(c);
                }
                digits.parse().unwrap_or_else(|_| panic!("a number, not {:?}", self.rest.peek()))
            }
        }
    }

    fn arguments(&mut self, opening: &str) -> Vec<f64> {
        for c in opening.chars() {
            assert_eq!(self.rest.next(), Some(c));
        }
        let mut values = vec![self.sum()];
        while self.next() == Some(',') {
            values.push(self.taken().sum());
        }
        assert_eq!(self.rest.next(), Some(')'));
        values
    }

    /// The next sign that counts: spaces and units are skipped.
    fn next(&mut self) -> Option<char> {
        loop {
            let next = *self.rest.peek()?;
            let rest: String = self.rest.clone().take(5).collect();
            let called = ["ceil(", "max(", "min("].iter().any(|name| rest.starts_with(name));
            if next.is_alphabetic() && !called {
                while self.rest.next_if(|c| c.is_alphanumeric() || *c == '_').is_some() {}
            } else if next == ' ' {
                self.rest.next();
            } else {
                return Some(next);
            }
        }
    }

    fn taken(&mut self) -> &mut Self {
        self.rest.next();
        self
    }
}

trait Decimals {
    fn ceil_of_decimals(self) -> f64;
}

impl Decimals for f64 {
    /// A calculator does not turn 19.6 ÷ 2.8 into 7.000000000000001.
    fn ceil_of_decimals(self) -> f64 {
        (self - 1e-9 * self.abs().max(1.0)).ceil()
    }
}

#[test]
fn formulas_are_read_as_they_are_written() {
    assert_eq!(evaluate("max(ceil(17.3 in flight ÷ (0.7 × 4)), 11 so far) = 11"), (11.0, 11));
    assert_eq!(evaluate("ceil(19.6 in flight ÷ (0.7 × 4)) = 7"), (7.0, 7));
    assert_eq!(evaluate("min(max(7 rps, 9), 2 × 3 ready) = 6"), (6.0, 6));
    assert_eq!(evaluate("4 now − 1 = 3"), (3.0, 3));
    assert_eq!(evaluate("ceil((9 ready × 3 in_flight + 1 silent × 0) ÷ 5) = 6"), (6.0, 6));
    assert_eq!(evaluate("ceil(2 × 3 ÷ 4) = 1").0, 2.0, "the right side is not believed");
}
