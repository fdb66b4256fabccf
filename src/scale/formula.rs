//! Arithmetic that writes itself down.
//!
//! A policy builds its number from [`Term`]s; the text and the value come from the same digits,
//! because a number is rounded to what is printed before anything is computed with it. So the
//! formula in a record, evaluated by hand, gives the number that was taken.

/// A value and how it is written.
#[derive(Debug, Clone)]
pub struct Term {
    value: f64,
    text: String,
    /// Needs parentheses inside a product.
    sum: bool,
    /// Needs parentheses as a divisor.
    product: bool,
}

/// What a quotient may lie above a whole number and still count as that number: 19.6 ÷ 2.8 is 7,
/// whatever binary fractions make of it.
const EPSILON: f64 = 1e-9;

impl Term {
    /// A measured or configured number with its unit (a word without digits), to four digits.
    pub fn number(value: f64, unit: &str) -> Self {
        let digits = rounded(value);
        let value = digits.parse().unwrap_or(0.0);
        Self::plain(value, if unit.is_empty() { digits } else { format!("{digits} {unit}") })
    }

    /// A count, exactly.
    pub fn count(value: u32, unit: &str) -> Self {
        let text = if unit.is_empty() { value.to_string() } else { format!("{value} {unit}") };
        Self::plain(f64::from(value), text)
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn plus(self, other: Self) -> Self {
        let text = format!("{} + {}", self.text, other.text);
        Self { value: self.value + other.value, text, sum: true, product: false }
    }

    pub fn minus(self, other: Self) -> Self {
        let text = format!("{} − {}", self.text, other.factor());
        Self { value: self.value - other.value, text, sum: true, product: false }
    }

    pub fn times(self, other: Self) -> Self {
        let text = format!("{} × {}", self.factor(), other.factor());
        Self { value: self.value * other.value, text, sum: false, product: true }
    }

    /// Division by zero gives 0: a policy without a target asks for nothing.
    pub fn over(self, other: Self) -> Self {
        let value = if other.value == 0.0 { 0.0 } else { self.value / other.value };
        let divisor = if other.product { format!("({})", other.text) } else { other.factor() };
        let text = format!("{} ÷ {divisor}", self.factor());
        Self { value, text, sum: false, product: true }
    }

    pub fn ceil(self) -> Self {
        Self::plain(ceil(self.value), format!("ceil({})", self.text))
    }

    pub fn max(self, other: Self) -> Self {
        // max(max(a, b), c) reads better as max(a, b, c).
        let text = match self.text.strip_prefix("max(").and_then(|rest| rest.strip_suffix(')')) {
            Some(inner) if !self.sum && !self.product => format!("max({inner}, {})", other.text),
            _ => format!("max({}, {})", self.text, other.text),
        };
        Self::plain(self.value.max(other.value), text)
    }

    pub fn min(self, other: Self) -> Self {
        let text = format!("min({}, {})", self.text, other.text);
        Self::plain(self.value.min(other.value), text)
    }

    /// The whole number and the line `… = n`. Negative values are 0.
    pub fn finish(self) -> (u32, String) {
        let n = ceil(self.value) as u32;
        (n, format!("{} = {n}", self.text))
    }

    fn plain(value: f64, text: String) -> Self {
        Self { value, text, sum: false, product: false }
    }

    fn factor(&self) -> String {
        if self.sum { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// Up to the next whole number, never below 0.
pub fn ceil(value: f64) -> f64 {
    (value - EPSILON * value.abs().max(1.0)).ceil().max(0.0)
}

/// Four significant digits, whole numbers in full, no trailing zeros.
pub fn rounded(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (3 - magnitude).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_computed() {
        let term = Term::number(17.3456, "in flight")
            .over(Term::number(0.7, "").times(Term::number(4.0, "")))
            .ceil();
        assert_eq!(term.finish(), (7, "ceil(17.35 in flight ÷ (0.7 × 4)) = 7".to_owned()));
    }

    #[test]
    fn a_whole_quotient_is_not_rounded_up() {
        let term = Term::number(19.6, "").over(Term::number(0.7, "").times(Term::number(4.0, "")));
        assert_eq!(term.ceil().finish().0, 7);
    }

    #[test]
    fn the_evaluator_agrees_with_hands() {
        assert_eq!(evaluate("max(ceil(17.3 in flight ÷ (0.7 × 4)), 11) = 11"), (11.0, 11));
        assert_eq!(evaluate("min(max(7, 9), 2 × 3 ready) = 6"), (6.0, 6));
        assert_eq!(evaluate("4 now − 1 = 3"), (3.0, 3));
        assert_eq!(evaluate("ceil((9 × 3 + 1 × 0) ÷ 5) = 6"), (6.0, 6));
    }

    /// Evaluates a formula as a reader would: words are ignored. Returns the value of the left
    /// side and the number on the right.
    pub(crate) fn evaluate(formula: &str) -> (f64, u32) {
        let (left, right) = formula.rsplit_once(" = ").expect("a formula has a result");
        let tokens: Vec<String> = tokens(left);
        let mut at = 0;
        let value = sum(&tokens, &mut at);
        assert_eq!(at, tokens.len(), "all of {formula} is read");
        (value, right.parse().expect("a whole number"))
    }

    fn tokens(text: &str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(&c) = chars.peek() {
            if c.is_ascii_digit() {
                let mut number = String::new();
                while let Some(&c) = chars.peek().filter(|c| c.is_ascii_digit() || **c == '.') {
                    number.push(c);
                    chars.next();
                }
                out.push(number);
            } else if c.is_alphabetic() {
                let mut word = String::new();
                while let Some(&c) = chars.peek().filter(|c| c.is_alphanumeric() || **c == '_') {
                    word.push(c);
                    chars.next();
                }
                if ["ceil", "max", "min"].contains(&&*word) && chars.peek() == Some(&'(') {
                    out.push(word);
                }
            } else {
                if "()+−×÷,".contains(c) {
                    out.push(c.to_string());
                }
                chars.next();
            }
        }
        out
    }

    fn sum(tokens: &[String], at: &mut usize) -> f64 {
        let mut value = product(tokens, at);
        while let Some(sign) = tokens.get(*at).filter(|t| *t == "+" || *t == "−") {
            *at += 1;
            let next = product(tokens, at);
            value += if sign == "+" { next } else { -next };
        }
        value
    }

    fn product(tokens: &[String], at: &mut usize) -> f64 {
        let mut value = atom(tokens, at);
        while let Some(sign) = tokens.get(*at).filter(|t| *t == "×" || *t == "÷") {
            *at += 1;
            let next = atom(tokens, at);
            value = if sign == "×" { value * next } else { value / next };
        }
        value
    }

    fn atom(tokens: &[String], at: &mut usize) -> f64 {
        let token = tokens[*at].as_str();
        *at += 1;
        match token {
            "(" => {
                let value = sum(tokens, at);
                *at += 1;
                value
            }
            "ceil" | "max" | "min" => {
                *at += 1;
                let mut value = sum(tokens, at);
                while tokens[*at] == "," {
                    *at += 1;
                    let other = sum(tokens, at);
                    value = if token == "min" { value.min(other) } else { value.max(other) };
                }
                *at += 1;
                if token == "ceil" { ceil(value) } else { value }
            }
            number => number.parse().expect("a number"),
        }
    }
}
