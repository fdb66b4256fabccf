//! One run over time, in few enough columns for a picture.

use super::score::Point;
use super::setting::Setting;

/// Most columns of a picture.
const COLUMNS: usize = 480;

/// A column: so many seconds together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Column {
    /// Seconds since the start.
    pub from: f64,
    pub to: f64,
    /// Requests per second, the mean.
    pub load: f64,
    /// Requests per second that the ready backends can serve, the least of the column.
    pub capacity: f64,
    /// Backends, ready and ordered, the most of the column.
    pub size: u32,
    /// Requests that waited too long or were dropped.
    pub late: f64,
}

/// Columns of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    pub columns: Vec<Column>,
    width: usize,
    seconds: usize,
}

impl Curve {
    /// For a run of so many seconds.
    pub fn new(seconds: usize) -> Self {
        let width = seconds.div_ceil(COLUMNS).max(1);
        Self { columns: Vec::with_capacity(seconds / width + 1), width, seconds: 0 }
    }

    pub fn add(&mut self, setting: &Setting, point: &Point) {
        let capacity = setting.capacity(point.ready);
        if self.seconds.is_multiple_of(self.width) {
            let from = self.seconds as f64;
            self.columns.push(Column { from, to: from, capacity, ..Column::default() });
        }
        if let Some(column) = self.columns.last_mut() {
            let before = column.to - column.from;
            column.load = (column.load * before + point.arrivals) / (before + 1.0);
            column.capacity = column.capacity.min(capacity);
            column.size = column.size.max(point.paid);
            column.late += point.late;
            column.to += 1.0;
        }
        self.seconds += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_mean_load_least_capacity_and_all_violations() {
        let setting = Setting::standard(30.0);
        let mut curve = Curve::new(960);
        for second in 0..960_u32 {
            let arrivals = f64::from(10 * (second % 2));
            let ready = 2 + second % 2;
            let point = Point { arrivals, ready, paid: 5, late: 1.0, ..Point::default() };
            curve.add(&setting, &point);
        }
        assert_eq!(curve.columns.len(), 480);
        let expected = Column { from: 2.0, to: 4.0, load: 5.0, capacity: 80.0, size: 5, late: 2.0 };
        assert_eq!(curve.columns[1], expected);
    }
}
