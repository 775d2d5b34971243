<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use PHPUnit\Framework\TestCase;
use Ws2Api\Connection;
use Ws2Api\IngressUnreachable;
use Ws2Api\Response;

/** Against a server that answers what the test writes down. */
final class ConnectionTest extends TestCase
{
    public function testAConnectionIsKept(): void
    {
        $server = ScriptedServer::start(["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 204 No Content\r\n\r\n"]);
        $connection = new Connection("$server->url/prefix/");
        $response = $connection->request('POST', '/call/A/CP1/1', ['Prefer' => 'wait=1'], '{"a":1}', 5);
        self::assertEquals(new Response(200, ['content-length' => '2'], '{}'), $response);
        self::assertSame(204, $connection->request('GET', '/clients/CP1', [], '', 5)->status);
        [$first, $second] = $server->requests(2);
        self::assertSame(
            "POST /prefix/call/A/CP1/1 HTTP/1.1\r\nHost: $server->host\r\nContent-Length: 7\r\nPrefer: wait=1\r\n\r\n{\"a\":1}",
            $first['text'],
        );
        self::assertSame([1, 1], [$first['connection'], $second['connection']]);
    }

    public function testOneThatTheOtherSideHasClosedIsMadeAnew(): void
    {
        $answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        // The first one says that it closes, the second one just does.
        $server = ScriptedServer::start([
            str_replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n", $answer) . ScriptedServer::CLOSE,
            $answer . ScriptedServer::CLOSE,
            $answer,
        ]);
        $connection = new Connection($server->url);
        for ($number = 1; $number <= 3; ++$number) {
            self::assertSame('{}', $connection->request('GET', '/', [], '', 5)->body);
            $server->requests($number);
        }
        self::assertSame([1, 2, 3], array_column($server->requests(3), 'connection'));
    }

    public function testALargeBodyGoesOutWhole(): void
    {
        $body = '"' . str_repeat('x', 3_000_000) . '"';
        $answer = '"' . str_repeat('y', 3_000_000) . '"';
        $server = ScriptedServer::start(["HTTP/1.1 200 OK\r\nContent-Length: 3000002\r\n\r\n$answer"]);
        self::assertTrue($answer === (new Connection($server->url))->request('POST', '/', [], $body, 30)->body);
        self::assertStringEndsWith("\r\n\r\n$body", $server->requests(1)[0]['text']);
    }

    public function testInterimAndChunkedAnswersAreRead(): void
    {
        $server = ScriptedServer::start([
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        ]);
        $connection = new Connection($server->url);
        self::assertSame('{"a":1}', $connection->request('GET', '/', [], '', 5)->body);
        self::assertSame(404, $connection->request('GET', '/', [], '', 5)->status);
    }

    public function testAnAnswerWithoutALengthEndsWithItsConnection(): void
    {
        $server = ScriptedServer::start(["HTTP/1.1 200 OK\r\n\r\n{\"a\":1}" . ScriptedServer::CLOSE, "HTTP/1.1 204 No Content\r\n\r\n"]);
        $connection = new Connection($server->url);
        self::assertSame('{"a":1}', $connection->request('GET', '/', [], '', 5)->body);
        self::assertSame(204, $connection->request('GET', '/', [], '', 5)->status);
    }

    public function testNobodyThereHasNotSeenIt(): void
    {
        $port = ScriptedServer::freePort();
        try {
            (new Connection("http://127.0.0.1:$port"))->request('GET', '/', [], '', 5);
            self::fail('somebody is there');
        } catch (IngressUnreachable $error) {
            self::assertFalse($error->mayHaveRun());
        }
    }

    public static function breaks(): array
    {
        return [
            'nothing' => [ScriptedServer::CLOSE],
            'half a head' => ["HTTP/1.1 200" . ScriptedServer::CLOSE],
            'half a body' => ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}" . ScriptedServer::CLOSE],
            'something else' => ["SSH-2.0\r\n\r\n" . ScriptedServer::CLOSE],
            'silence' => [''],
        ];
    }

    /** @dataProvider breaks */
    public function testAnAnswerThatBreaksOffMayHaveRun(string $answer): void
    {
        $server = ScriptedServer::start([$answer, "HTTP/1.1 204 No Content\r\n\r\n"]);
        $connection = new Connection($server->url);
        try {
            $connection->request('POST', '/', [], '{}', 1);
            self::fail('there was an answer');
        } catch (IngressUnreachable $error) {
            self::assertTrue($error->mayHaveRun());
        }
        // What is late of the old answer is not the new one's.
        self::assertSame(204, $connection->request('POST', '/', [], '{}', 5)->status);
    }

    public function testAHeaderCannotBreakItsLine(): void
    {
        $server = ScriptedServer::start([]);
        $this->expectException(\InvalidArgumentException::class);
        (new Connection($server->url))->request('GET', '/', ['X-A' => "b\r\nX-C: d"], '', 5);
    }

    public function testAnAddressIsHttp(): void
    {
        $this->expectException(\InvalidArgumentException::class);
        new Connection('unix:/tmp/socket');
    }
}
