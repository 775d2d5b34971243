//! One of the two processes dies while clients move: `takeover-6`, `takeover-14`.

use rustix::process::Signal;
use support::{Backend, Message, Response, eventually};

use super::upgrade::{Installed, ask, goes_on, slow, wait_for_the_old_one};

const CLIENTS: usize = 20;

#[test]
fn a_new_process_that_dies_with_clients_that_it_has_confirmed_costs_no_other_a_word() {
    for (step, confirmed) in [("serves-and-dies", 0), ("confirms-clients-and-dies", 3)] {
        let installed = Installed::new();
        let backend = Backend::start();
        let mut proxy = slow(&backend).program(installed.program()).start();
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|number| proxy.client(&format!("CP{number:02}")))
            .collect();
        installed.exchange_for_step(step);
        ask(&proxy, "POST").expect(200);
        wait_until_it_serves_again(&proxy);
        wait_for_moved(&proxy, CLIENTS - confirmed);
        let list = proxy.http().get("/clients?limit=100").expect(200).json();
        let left: Vec<_> = list["clients"]
            .as_array()
            .unwrap()
            .iter()
            .map(|client| client["clientId"].clone())
            .collect();
        for (number, client) in clients.iter_mut().enumerate() {
            match left.contains(&format!("CP{number:02}").into()) {
                true => client.call(1),
                // What was confirmed was the new one's, and has gone with it.
                false => assert_eq!(client.message(), Message::End, "{step}"),
            }
        }
        installed.restore();
        let new = proxy.upgrade();
        assert_eq!(proxy.wait().code(), Some(0), "{step}");
        assert_eq!(backend.seen("/disconnect").len(), 0, "{step}");
        new.terminate();
    }
}

#[test]
fn a_new_process_that_is_killed_leaves_those_that_have_not_moved_to_the_old_one() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let proxy = slow(&backend).start();
    let mut moved = proxy.client("CP1");
    let mut busy = proxy.client("CP2");
    busy.send_call("1", "Heartbeat", "{}");
    backend.take("/call");
    let new = proxy.upgrade();
    wait_for_moved(&proxy, 1);
    new.signal(Signal::KILL);
    assert_eq!(moved.message(), Message::End);
    wait_until_it_serves_again(&proxy);
    gate.open();
    busy.expect("[3,\"1\",{}]");
    goes_on(&proxy, &mut busy);
}

#[test]
fn the_death_of_the_old_one_costs_nobody_a_word_who_has_moved() {
    let backend = Backend::start();
    let gate = backend.hold("/call", |_| Response::json("{}"));
    let mut proxy = slow(&backend).start();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| proxy.client(&format!("CP{number}")))
        .collect();
    let mut busy = proxy.client("busy");
    // They have a push in flight and one behind it when they move.
    for (number, client) in clients.iter_mut().enumerate() {
        proxy.push(&format!("CP{number}"), "Reset", "p1", "{}").expect(202);
        client.expect("[2,\"p1\",\"Reset\",{}]");
        proxy.push(&format!("CP{number}"), "Reset", "p2", "{}").expect(202);
    }
    busy.send_call("1", "Heartbeat", "{}");
    backend.take("/call");
    let new = proxy.upgrade();
    wait_for_moved(&proxy, CLIENTS);
    proxy.signal(Signal::KILL);
    assert_eq!(proxy.wait().code(), None);
    assert_eq!(busy.message(), Message::End);
    wait_for_the_old_one(&proxy);
    gate.open();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_result("p1", "{}");
        client.expect("[2,\"p2\",\"Reset\",{}]");
        client.send_result("p2", "{}");
        client.call(1);
        for id in ["p1", "p2"] {
            backend.take(&format!("/result/Reset/CP{number}/{id}"));
        }
    }
    proxy.push("nobody", "Reset", "p1", "{}").expect(404);
    // Who was with the old one comes back, and the new one can be taken over from in its turn.
    let mut busy = proxy.client("busy");
    let last = proxy.upgrade();
    new.wait();
    busy.call(2);
    clients.iter_mut().for_each(|client| client.call(3));
    assert_eq!(backend.seen("/connect").len(), CLIENTS + 2);
    assert_eq!(backend.seen("/error").len(), 0);
    last.terminate();
}

/// Waits until the new process, which is the one that answers, has so many clients.
fn wait_for_moved(proxy: &support::Proxy, count: usize) {
    eventually("clients to move", || {
        (proxy.metric("clients").iter().sum::<f64>() as usize == count).then_some(())
    });
}

fn wait_until_it_serves_again(proxy: &support::Proxy) {
    eventually("the old process to serve again", || {
        let told = ask(proxy, "GET");
        let told = (told.status == 200).then(|| told.json())?;
        (told["failed"] == 1 && told["isTakenOver"] == false).then_some(())
    });
    proxy.wait_log("undone, this process serves again: the process that had taken over has ended");
}
