//! One of the two processes dies, hangs or talks nonsense: `takeover-6`, `takeover-14`, `takeover-16`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;

use protocol::takeover::{Hello, Listener, ListenerName, Message as Said, PACKET_LEN_MAX};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::Signal;
use support::{Backend, Message, Response, Successor, eventually};

use super::installed::Installed;
use super::upgrade::{ask, goes_on, slow, wait_for_the_old_one};

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
fn what_a_new_process_says_of_what_there_is_not_changes_nothing() {
    let installed = Installed::new();
    let backend = Backend::start();
    let mut proxy = slow(&backend).program(installed.program()).start();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| proxy.client(&format!("CP{number}")))
        .collect();
    installed.exchange_for_step("talks-nonsense-about-clients-and-dies");
    ask(&proxy, "POST").expect(200);
    wait_until_it_serves_again(&proxy);
    // None of them was confirmed.
    clients.iter_mut().for_each(|client| client.call(1));
    goes_on(&proxy, &mut clients[0]);
    installed.restore();
    let new = proxy.upgrade();
    assert_eq!(proxy.wait().code(), Some(0));
    clients.iter_mut().for_each(|client| client.call(2));
    new.terminate();
}

#[test]
fn a_new_process_that_hangs_or_cannot_be_understood_once_it_serves_holds_up_nobodys_end() {
    for step in ["serves-and-hangs", "serves-and-says-what-cannot-be-read"] {
        let installed = Installed::new();
        let backend = Backend::start();
        let _gate = backend.hold("/call", |_| Response::json("{}"));
        let mut proxy = slow(&backend)
            .program(installed.program())
            .set("upgrade_timeout", "1s")
            .set("drain_timeout", "1s")
            .start();
        let mut quiet: Vec<_> = (0..CLIENTS)
            .map(|number| proxy.client(&format!("CP{number}")))
            .collect();
        let mut busy = proxy.client("busy");
        busy.send_call("1", "Heartbeat", "{}");
        backend.take("/call");
        installed.exchange_for_step(step);
        let told = ask(&proxy, "POST").expect(200).json();
        let new = Successor::new(told["pid"].as_i64().unwrap());
        // Who has not moved leaves as at the end, and the old one ends.
        assert!(busy.text().starts_with("[4,\"1\",\"InternalError\","), "{step}");
        busy.expect_close(1001);
        assert_eq!(proxy.wait().code(), Some(0), "{step}");
        // Who was on the way, which no other process may have then, is free with the end of the one that has it.
        new.signal(Signal::KILL);
        for client in &mut quiet {
            let last = client.message();
            assert!(
                matches!(last, Message::End | Message::Close(Some(1001), _)),
                "{step}: {last:?}"
            );
        }
        assert_eq!(backend.seen("/connect").len(), CLIENTS + 1);
    }
}

#[test]
fn the_death_of_the_old_one_at_any_step_once_the_listeners_are_there_leaves_a_new_one_that_serves() {
    for step in ["listeners", "ready", "go"] {
        let backend = Backend::start();
        let flags = SocketFlags::CLOEXEC;
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut new = thread::scope(|scope| {
            scope.spawn(|| play_the_old_one(own, step));
            slow(&backend)
                .environment("WS2API_TAKES_OVER_FROM", std::process::id().to_string())
                .start_with(other)
        });
        new.wait_log(match step {
            "go" => "the process before this one has ended",
            _ => "has ended: this one serves in its place",
        });
        let mut client = new.client("CP1");
        goes_on(&new, &mut client);
        wait_for_the_old_one(&new);
        new.http().get("/clients").expect(200);
        new.push("CP2", "Reset", "p1", "{}").expect(404);
        assert_eq!(new.get("/readyz").expect(200).body, "ready\n", "{step}");
        // It can be taken over from in its turn.
        let last = new.upgrade();
        assert_eq!(new.wait().code(), Some(0), "{step}");
        client.call(8);
        last.terminate();
    }
}

/// Up to its death.
fn play_the_old_one(channel: OwnedFd, step: &str) {
    let say = |message: &Said, socket: Option<&TcpListener>| {
        let sockets: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
        }
        let bytes = message.to_bytes();
        sendmsg(&channel, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
    };
    let hear = || {
        let mut packet = vec![0; PACKET_LEN_MAX];
        let mut control = RecvAncillaryBuffer::default();
        let received = recvmsg(
            &channel,
            &mut [IoSliceMut::new(&mut packet)],
            &mut control,
            RecvFlags::empty(),
        );
        Said::parse(&packet[..received.unwrap().bytes]).unwrap().unwrap()
    };
    say(&Said::Hello(Hello::own("an old one", 3, 1)), None);
    for name in [ListenerName::Listen, ListenerName::Ingress, ListenerName::Admin] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let told = Listener {
            name,
            configured: "127.0.0.1:0".parse().unwrap(),
            is_kept: false,
        };
        say(&Said::Listener(told), Some(&listener));
    }
    assert!(matches!(hear(), Said::Hello(_)));
    if step == "listeners" {
        return;
    }
    assert_eq!(hear(), Said::Ready);
    if step == "go" {
        say(&Said::Go, None);
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
