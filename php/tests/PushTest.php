<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use PHPUnit\Framework\TestCase;
use Ws2Api\Accepted;
use Ws2Api\CallError;
use Ws2Api\ClientError;
use Ws2Api\Ingress;
use Ws2Api\IngressUnreachable;
use Ws2Api\NoAnswer;
use Ws2Api\Push;
use Ws2Api\PushFailed;
use Ws2Api\PushRefused;
use Ws2Api\Raw;
use Ws2Api\Request;
use Ws2Api\Response;
use Ws2Api\Ticket;

final class PushTest extends TestCase
{
    public function testAPushIsARequestOfItsParts(): void
    {
        $transport = new ScriptedTransport(new Response(202, [], '{"status":"queued","messageId":"p 1","connectionId":"c"}'));
        $push = new Push(new Ingress('http://unused', 'secret', $transport));
        $accepted = $push->send('CP/ä', 'Reset', ['type' => 'Soft'], 'p 1', 'c');
        self::assertEquals(new Accepted('p 1', 'c', true), $accepted);
        $headers = ['X-Connection-Id' => 'c', 'Content-Type' => 'application/json', 'Authorization' => 'Bearer secret'];
        self::assertSame(
            [['POST', '/call/Reset/CP%2F%C3%A4/p%201', $headers, '{"type":"Soft"}', 5]],
            $transport->requests,
        );
    }

    public function testMessageIdsAreUniqueAndShortEnoughForOcpp(): void
    {
        $answer = new Response(202, [], '{"status":"sent","messageId":"x","connectionId":"c"}');
        $transport = new ScriptedTransport($answer, $answer);
        $push = new Push(new Ingress('http://unused', '', $transport));
        $push->send('CP1', 'Reset');
        $push->send('CP1', 'Reset');
        $ids = array_map(static fn (array $request): string => basename($request[1]), $transport->requests);
        self::assertNotSame($ids[0], $ids[1]);
        self::assertMatchesRegularExpression('/^[0-9a-f-]{36}$/', $ids[0]);
    }

    public function testEmptyAndRawPayloadsGoOutAsTheyAre(): void
    {
        $answer = new Response(202, [], '{}');
        $transport = new ScriptedTransport($answer, $answer, $answer);
        $push = new Push(new Ingress('http://unused', '', $transport));
        $push->send('CP1', 'ClearCache');
        $push->send('CP1', 'ClearCache', (object) []);
        $push->send('CP1', 'DataTransfer', new Raw('{ "n": 1.0 }'));
        self::assertSame(['{}', '{}', '{ "n": 1.0 }'], array_column($transport->requests, 3));
    }

    public function testWaitingGivesTheAnswer(): void
    {
        $transport = new ScriptedTransport(new Response(200, [], '{"status": "Accepted" }'));
        $answer = (new Push(new Ingress('http://unused', '', $transport)))->call('CP1', 'Reset', [], 40);
        self::assertSame(['status' => 'Accepted'], $answer->payload());
        self::assertSame('{"status": "Accepted" }', (string) $answer->raw());
        self::assertSame('wait=40', $transport->requests[0][2]['Prefer']);
        self::assertSame(45, $transport->requests[0][4]);
    }

    public function testAWaitIsOneSecondToAnHour(): void
    {
        foreach ([0, 3601] as $wait) {
            try {
                (new Push(new Ingress('http://unused', '', new ScriptedTransport())))->call('CP1', 'Reset', [], $wait);
                self::fail("$wait");
            } catch (\InvalidArgumentException) {
                self::addToAssertionCount(1);
            }
        }
    }

    /** Each row: the answer, what it becomes, whether the client may have run it. */
    public static function failures(): array
    {
        $error = static fn (int $status, array $headers = []): Response => new Response($status, $headers, '{"error":"why"}');
        $none = static fn (int $status, string $code, bool $sent): Response => Response::json(
            $status,
            ['code' => $code, 'description' => 'd', 'details' => ['sent' => $sent]],
        );
        $rows = [
            '422' => [Response::json(422, ['code' => 'X', 'description' => 'd', 'details' => (object) []]), new ClientError('X', 'd', []), true],
            '504 sent' => [$none(504, 'Timeout', true), new NoAnswer('Timeout', 'd', true), true],
            '504 withdrawn' => [$none(504, 'Timeout', false), new NoAnswer('Timeout', 'd', false), false],
            '502 Disconnected' => [$none(502, 'Disconnected', true), new NoAnswer('Disconnected', 'd', true), true],
            '502 Replaced' => [$none(502, 'Replaced', false), new NoAnswer('Replaced', 'd', false), false],
            '502 Shutdown' => [$none(502, 'Shutdown', false), new NoAnswer('Shutdown', 'd', false), false],
            '502 BadAnswer' => [$none(502, 'BadAnswer', true), new NoAnswer('BadAnswer', 'd', true), true],
            '502 of a balancer' => [new Response(502, [], '<html>'), new IngressUnreachable('ws2api answered 502', true), true],
            '504 of a balancer' => [new Response(504), new IngressUnreachable('ws2api answered 504', true), true],
            '503 of a balancer' => [new Response(503, [], '<html>'), new PushRefused(503, ''), false],
            '429' => [$error(429, ['Retry-After' => '3']), new PushRefused(429, 'why', 3), false],
            '503' => [$error(503, ['Retry-After' => '1']), new PushRefused(503, 'why', 1), false],
        ];
        foreach ([400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 431, 501, 505] as $status) {
            $rows[(string) $status] = [$error($status), new PushRefused($status, 'why'), false];
        }
        return $rows;
    }

    /** @dataProvider failures */
    public function testEveryStatusHasItsException(Response $response, PushFailed $expected, bool $mayHaveRun): void
    {
        $push = new Push(new Ingress('http://unused', '', new ScriptedTransport($response)));
        try {
            $push->call('CP1', 'Reset');
            self::fail('it went well');
        } catch (PushFailed $error) {
            self::assertSame($expected::class, $error::class);
            self::assertSame($expected->getMessage(), $error->getMessage());
            self::assertSame($mayHaveRun, $error->mayHaveRun());
            if ($expected instanceof PushRefused) {
                self::assertSame($expected->retryAfter, $error->retryAfter);
            }
        }
    }

    /** The statuses of the contract are all known to the tests above. */
    public function testNoStatusOfTheOpenApiDocumentIsMissing(): void
    {
        $text = file_get_contents(__DIR__ . '/../../docs/openapi.yaml');
        self::assertSame(1, preg_match('~^  /call/.*?^  /result/~ms', $text, $path));
        preg_match_all("~^        '(\d{3})':~m", $path[0], $statuses);
        $known = [200, 202, ...array_map(static fn (array $row): int => $row[0]->status, array_values(self::failures()))];
        self::assertGreaterThan(10, count($statuses[1]));
        self::assertSame([], array_diff(array_map(intval(...), $statuses[1]), $known));
    }

    public function testRefusalsHaveNames(): void
    {
        self::assertTrue((new PushRefused(404, ''))->isNotConnected());
        self::assertTrue((new PushRefused(409, ''))->isRepeated());
        self::assertTrue((new PushRefused(412, ''))->isAnotherConnection());
        self::assertTrue((new PushRefused(429, ''))->isTemporary() && (new PushRefused(503, ''))->isTemporary());
        self::assertFalse((new PushRefused(404, ''))->isTemporary());
    }

    public function testADeferredCallIsAnsweredByItsTicket(): void
    {
        $request = Request::from('POST', '/call/Authorize/CP%201/m1', ['X-Connection-Id' => 'c1'], '{}');
        $ticket = Ticket::from((string) $request->ticket());
        $transport = new ScriptedTransport(new Response(204), new Response(204), new Response(409, [], '{"error":"answered"}'));
        $ingress = new Ingress('http://unused', '', $transport);
        $ingress->answer($ticket);
        $ingress->fail($ticket, CallError::formatViolation('why'), 'ocpp1.6');
        self::assertSame(['/result/Authorize/CP%201/m1', '/error/Authorize/CP%201/m1'], array_column($transport->requests, 1));
        self::assertSame('c1', $transport->requests[0][2]['X-Connection-Id']);
        $body = '{"code":"FormationViolation","description":"why","details":{}}';
        self::assertSame(['{}', $body], array_column($transport->requests, 3));
        $this->expectExceptionObject(new PushRefused(409, 'answered'));
        $ingress->answer($ticket, ['status' => 'Accepted']);
    }

    public function testClientsAreListedPageByPage(): void
    {
        $transport = new ScriptedTransport(
            new Response(200, [], '{"clients":[{"clientId":"A"},{"clientId":"B"}],"next":"0.2"}'),
            new Response(200, [], '{"clients":[{"clientId":"C"}],"next":null}'),
        );
        $clients = iterator_to_array((new Ingress('http://unused', '', $transport))->clients(2), false);
        self::assertSame(['A', 'B', 'C'], array_column($clients, 'clientId'));
        self::assertSame(['/clients?limit=2&after=', '/clients?limit=2&after=0.2'], array_column($transport->requests, 1));
    }

    public function testOneClientIsFoundOrNotAndClosedOrNot(): void
    {
        $gone = new Response(404, [], '{"error":"this client is not connected here"}');
        $transport = new ScriptedTransport(new Response(200, [], '{"clientId":"A"}'), $gone, new Response(204), $gone);
        $ingress = new Ingress('http://unused', '', $transport);
        self::assertSame(['clientId' => 'A'], $ingress->client('A'));
        self::assertNull($ingress->client('A'));
        self::assertTrue($ingress->close('A', 4100, 'go away'));
        self::assertFalse($ingress->close('A'));
        self::assertSame('/clients/A?code=4100&reason=go%20away', $transport->requests[2][1]);
    }
}
