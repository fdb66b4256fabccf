//! Examples of `behavior`: the Kubernetes documentation, "Configurable scaling behavior", and the
//! user stories of KEP-853, "Configurable scale up/down velocity for HPA".

use super::*;
use crate::config::types::Select;
use crate::scale::fixture::{backends, params, percent, quick, seconds};

const MINUTE: u64 = 60;

fn sizes(service: &mut Service, every: u64, wants: &[u32]) -> Vec<u32> {
    (0..).zip(wants).map(|(i, n)| service.wants(i * every, *n)).collect()
}

#[test]
fn story_1_ten_times_a_minute() {
    let mut params = quick();
    params.up.limits = vec![percent(900, MINUTE)];
    let mut service = Service::told(params, 1);
    assert_eq!(sizes(&mut service, MINUTE, &[1000; 4]), [10, 100, 1000, 1000]);
    let mut params = quick();
    params.up.limits = vec![percent(900, MINUTE)];
    let mut service = Service::told(params, 1);
    assert_eq!(sizes(&mut service, 20, &[1000; 7]), [10, 10, 10, 100, 100, 100, 1000]);
}

#[test]
fn story_2_up_at_once_and_down_by_one_in_ten_minutes() {
    let mut params = quick();
    params.up.limits = vec![percent(900, MINUTE)];
    params.down.limits = vec![backends(1, 600)];
    let mut service = Service::told(params, 1);
    assert_eq!(sizes(&mut service, MINUTE, &[1000; 3]), [10, 100, 1000]);
    // A period begins without what was added in it, so the story holds ten minutes after that.
    assert_eq!(service.wants(12 * MINUTE - 1, 1000), 1000);
    let down: Vec<u32> = (12..34).map(|minute| service.wants(minute * MINUTE, 1)).collect();
    let expected: Vec<u32> = (0..22).map(|minutes| 999 - minutes / 10).collect();
    assert_eq!(down, expected);
}

#[test]
fn story_3_one_more_in_five_minutes() {
    let mut params = quick();
    params.up.limits = vec![backends(1, 300)];
    let mut service = Service::told(params, 1);
    let up = sizes(&mut service, MINUTE, &[50; 16]);
    assert_eq!(up, [2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5]);
    assert_eq!(service.wants(16 * MINUTE, 1), 1, "down as usual");
}

#[test]
fn story_4_never_down() {
    let mut params = params();
    params.down.select = Select::Disabled;
    params.down.stabilization = Duration::ZERO;
    let mut service = Service::told(params, 2);
    assert_eq!(sizes(&mut service, 15, &[40; 5]), [6, 12, 24, 40, 40]);
    assert_eq!(service.wants(3600, 1), 40);
}

#[test]
fn story_5_ten_minutes_of_recommendations_before_anything_goes() {
    let mut params = params();
    params.down.stabilization = seconds(600);
    params.down.limits = vec![backends(5, MINUTE)];
    let mut service = Service::told(params, 10);
    let recommended = [10, 9, 8, 9, 9, 8, 9, 8, 9, 8];
    assert_eq!(sizes(&mut service, MINUTE, &recommended), [10; 10], "the ten is within the window");
    assert_eq!(service.wants(10 * MINUTE, 7), 9, "it has left it");
    // The last nine is the one of minute 8; then eights, then sevens, five a minute at most.
    assert_eq!(service.wants(18 * MINUTE - 1, 1), 9);
    assert_eq!(service.wants(18 * MINUTE, 1), 8);
    assert_eq!(service.wants(19 * MINUTE, 1), 7);
    assert_eq!(service.wants(20 * MINUTE, 1), 2, "five fewer");
    assert_eq!(service.wants(21 * MINUTE, 1), 1);
}

/// The KEP counts six recommendations a minute apart in a window of five minutes.
#[test]
fn story_6_five_minutes_of_recommendations_before_anything_is_added() {
    let mut params = params();
    params.up.stabilization = seconds(301);
    params.up.limits = vec![backends(20, MINUTE)];
    let mut service = Service::told(params, 2);
    assert_eq!(sizes(&mut service, MINUTE, &[2, 3, 19, 10, 3, 4]), [2; 6]);
    assert_eq!(service.wants(6 * MINUTE, 7), 3, "the two has left the window");
}

#[test]
fn after_a_start_the_size_that_was_found_is_the_first_recommendation() {
    let mut params = params();
    params.up.stabilization = seconds(60);
    let mut service = Service::told(params, 5);
    assert_eq!(sizes(&mut service, 15, &[8, 9, 8, 8]), [5, 5, 5, 5]);
    assert_eq!(service.wants(60, 9), 8, "the least of what came since");
}

/// "Default behavior": twice as many or four more in 15 s, whichever is more; down after 300 s, then at once.
#[test]
fn the_defaults() {
    let mut service = Service::told(params(), 1);
    assert_eq!(sizes(&mut service, 15, &[100; 7]), [5, 10, 20, 40, 80, 100, 100]);
    assert_eq!(service.wants(389, 3), 100, "300 s after the last wish for a hundred");
    assert_eq!(service.wants(390, 3), 3);
}

/// "Example: limit scale down rate" and "… with both": 10 % a minute, no more than five at once.
#[test]
fn ten_percent_a_minute_and_five_at_most() {
    let mut params = quick();
    params.down.limits = vec![percent(10, MINUTE), backends(5, MINUTE)];
    params.down.select = Select::Min;
    let mut service = Service::told(params, 80);
    let down = sizes(&mut service, MINUTE, &[1; 16]);
    // What remains is truncated: 90 % of 45 is 40, of 9 is 8.
    assert_eq!(down, [75, 70, 65, 60, 55, 50, 45, 40, 36, 32, 28, 25, 22, 19, 17, 15]);
}

/// "Example: 4 pods or 10 % a minute", from 80 to 10.
#[test]
fn four_or_ten_percent_a_minute_whichever_is_more() {
    let mut params = quick();
    params.down.limits = vec![backends(4, MINUTE), percent(10, MINUTE)];
    let mut service = Service::told(params, 80);
    let down = sizes(&mut service, MINUTE, &[10; 17]);
    assert_eq!(down, [72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10, 10, 10, 10]);
}

/// What flaps every minute within the window changes nothing, up or down.
#[test]
fn a_window_takes_the_flapping_out() {
    let mut params = params();
    params.up.stabilization = seconds(180);
    let mut service = Service::told(params, 6);
    let wants: Vec<u32> = (0..60).map(|i| if i % 2 == 0 { 4 } else { 8 }).collect();
    let sizes = sizes(&mut service, MINUTE, &wants);
    assert!(sizes.iter().all(|size| *size == 6), "{sizes:?}");
}

#[test]
fn what_is_outside_of_min_and_max_is_brought_in_at_once() {
    let mut params = params();
    (params.min, params.max) = (3, 20);
    params.up.limits = vec![backends(1, MINUTE)];
    params.down.limits = vec![backends(1, MINUTE)];
    params.queues = vec![("told".into(), told())];
    let mut above = Service::new(params.clone(), 50);
    assert_eq!(above.wants(1, 100), 20);
    let mut below = Service::new(params, 1);
    assert_eq!(below.wants(1, 1), 3);
}
