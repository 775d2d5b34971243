<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use PHPUnit\Framework\TestCase;
use Psr\Log\AbstractLogger;
use Ws2Api\Attribute\Call;
use Ws2Api\Attribute\OnConnect;
use Ws2Api\Attribute\OnDisconnect;
use Ws2Api\Attribute\OnError;
use Ws2Api\Attribute\OnResult;
use Ws2Api\Attribute\OnResultError;
use Ws2Api\Attribute\OnSend;
use Ws2Api\CacheKeyStore;
use Ws2Api\CallError;
use Ws2Api\ClientError;
use Ws2Api\Deferred;
use Ws2Api\ErrorCode;
use Ws2Api\NoAnswer;
use Ws2Api\PushFailed;
use Ws2Api\Raw;
use Ws2Api\Refused;
use Ws2Api\Request;
use Ws2Api\Response;
use Ws2Api\Router;

final class RouterTest extends TestCase
{
    private const JSON = ['Content-Type' => 'application/json'];

    public function testParametersAreFoundByTheirTypes(): void
    {
        $object = new class {
            /** @var list<mixed> */
            public array $seen = [];

            #[Call('Start')]
            public function start(array $payload, string $client, Request $request): void
            {
                $this->seen = [$payload, $client, $request->action(), $request->messageId(), $request->connectionId()];
            }
        };
        $headers = ['x-connection-id' => '00000001001000000002'];
        self::ask($object, 'call/Start/CP%2B%C3%A4+1/m%201', '{"a":1}', $headers);
        self::assertSame([['a' => 1], 'CP+ä+1', 'Start', 'm 1', '00000001001000000002'], $object->seen);
    }

    public function testParametersOfOtherTypesAreAnErrorAtOnce(): void
    {
        $this->expectException(\LogicException::class);
        (new Router())->add(new class {
            #[Call('Start')]
            public function start(int $number): void
            {
            }
        });
    }

    public function testTwoMethodsForTheSameAreAnErrorAtOnce(): void
    {
        $this->expectException(\LogicException::class);
        (new Router())->add(new class {
            #[Call('Start')]
            public function one(): void
            {
            }

            #[Call('Start')]
            public function two(): void
            {
            }
        });
    }

    public static function answers(): array
    {
        return [
            'values' => [['status' => 'Accepted', 'at' => 1.0], '{"status":"Accepted","at":1.0}'],
            'nothing' => [null, '{}'],
            'the empty array' => [[], '{}'],
            'an empty object inside' => [['details' => (object) []], '{"details":{}}'],
            'slashes and letters as they are' => [['url' => 'http://ä/ö'], '{"url":"http://ä/ö"}'],
            'raw' => [new Raw('{ "n" : 1.50e1, "u":"\u0041" }'), '{ "n" : 1.50e1, "u":"\u0041" }'],
        ];
    }

    /** @dataProvider answers */
    public function testWhatAMethodReturnsIsThePayload(mixed $value, string $body): void
    {
        $object = new class ($value) {
            public function __construct(private readonly mixed $value)
            {
            }

            #[Call]
            public function any(): mixed
            {
                return $this->value;
            }
        };
        self::assertEquals(new Response(200, self::JSON, $body), self::ask($object, 'call/Any/CP1/1'));
    }

    public function testAPayloadPassesByteForByte(): void
    {
        $object = new class {
            #[Call]
            public function echo(Request $request): Raw
            {
                return $request->raw();
            }
        };
        $payload = "{ \"big\": 123456789012345678901234567890, \"f\": 1.0,\n\"u\": \"\\u00e4\", \"b\": 2, \"a\": 1 }";
        self::assertSame($payload, self::ask($object, 'call/Echo/CP1/1', $payload)->body);
    }

    public function testLargeIntegersKeepTheirDigits(): void
    {
        $request = Request::from('POST', '/call/A/CP1/1', [], '{"n":123456789012345678901234567890}');
        self::assertSame(['n' => '123456789012345678901234567890'], $request->payload());
    }

    public function testADeferredCallIsAnsweredLater(): void
    {
        $object = new class {
            #[Call]
            public function later(): Deferred
            {
                return new Deferred();
            }
        };
        self::assertEquals(new Response(202, ['X-Deferred' => '1']), self::ask($object, 'call/A/CP1/1'));
    }

    public function testACallErrorIsSpelledAsTheClientsVersionDoes(): void
    {
        $object = new class {
            #[Call('Form')]
            public function form(): never
            {
                throw CallError::formatViolation('no number', ['field' => 'n']);
            }

            #[Call('Own')]
            public function own(): never
            {
                throw new CallError('Mine', 'why');
            }

            #[Call('Mine')]
            public function mine(): never
            {
                throw CallError::internalError('my fault');
            }
        };
        $of = static fn (string $action, array $headers = []): array => [
            self::ask($object, "call/$action/CP1/1", '{}', $headers)->status,
            self::ask($object, "call/$action/CP1/1", '{}', $headers)->body,
        ];
        $body = '{"code":"%s","description":"no number","details":{"field":"n"}}';
        self::assertSame([400, sprintf($body, 'FormationViolation')], $of('Form', ['x-subprotocol' => 'ocpp1.6']));
        self::assertSame([400, sprintf($body, 'FormatViolation')], $of('Form', ['x-subprotocol' => 'ocpp2.0.1']));
        self::assertSame([400, sprintf($body, 'FormatViolation')], $of('Form'));
        self::assertSame([400, '{"code":"Mine","description":"why","details":{}}'], $of('Own'));
        self::assertSame([500, '{"code":"InternalError","description":"my fault","details":{}}'], $of('Mine'));
    }

    public function testEveryCodeHasAConstructorAndASpellingOfBothVersions(): void
    {
        $known16 = [
            'NotImplemented', 'NotSupported', 'InternalError', 'ProtocolError', 'SecurityError', 'FormationViolation',
            'PropertyConstraintViolation', 'OccurenceConstraintViolation', 'TypeConstraintViolation', 'GenericError',
        ];
        foreach (ErrorCode::cases() as $code) {
            $error = CallError::{lcfirst($code->name)}('why');
            self::assertSame($code->value, $error->code('ocpp2.1'));
            self::assertContains($error->code('ocpp1.6'), $known16);
        }
        $this->expectException(\BadMethodCallException::class);
        CallError::somethingElse('why');
    }

    public function testACodeOfOnesOwnHasOneToFiftyCharacters(): void
    {
        self::assertSame(str_repeat('ü', 50), (new CallError(str_repeat('ü', 50)))->code(null));
        foreach (['', str_repeat('x', 51), "\xff"] as $code) {
            try {
                new CallError($code);
                self::fail($code);
            } catch (\InvalidArgumentException) {
                self::addToAssertionCount(1);
            }
        }
    }

    public function testACallThatNobodyAnswersIsNotImplemented(): void
    {
        $response = self::ask(new \stdClass(), 'call/Nonsense/CP1/1');
        self::assertSame(400, $response->status);
        self::assertSame('NotImplemented', json_decode($response->body)->code);
    }

    public function testAMethodForTheActionComesBeforeTheOneForAll(): void
    {
        $object = new class {
            #[Call('A'), Call('B')]
            public function some(): array
            {
                return ['some' => true];
            }

            #[Call]
            public function others(Request $request): array
            {
                return ['action' => $request->action()];
            }
        };
        self::assertSame('{"some":true}', self::ask($object, 'call/A/CP1/1')->body);
        self::assertSame('{"some":true}', self::ask($object, 'call/B/CP1/1')->body);
        self::assertSame('{"action":"C"}', self::ask($object, 'call/C/CP1/1')->body);
    }

    public function testWhatAMethodThrowsIsLoggedAndNotTold(): void
    {
        $log = new class extends AbstractLogger {
            public string $text = '';

            public function log($level, $message, array $context = []): void
            {
                $this->text .= "$level $message";
            }
        };
        $object = new class {
            #[Call]
            public function any(): never
            {
                throw new \RuntimeException('the password is 1234');
            }
        };
        $router = (new Router(log: $log))->add($object);
        $response = $router->handle(Request::from('POST', '/call/A/CP1/1', [], '{}'));
        self::assertSame(500, $response->status);
        self::assertSame('{"code":"InternalError","description":"see the log","details":{}}', $response->body);
        self::assertStringContainsString('call A of CP1', $log->text);
        self::assertStringContainsString('the password is 1234', $log->text);
    }

    public static function connects(): array
    {
        return [
            'true' => [static fn (): bool => true, 200, '"ok"', []],
            'false' => [static fn (): bool => false, 403, '', []],
            'forgotten' => [static fn () => null, 403, '', []],
            'a word' => [static fn () => 'ok', 403, '', []],
            'password' => [
                static fn () => throw Refused::password('my "own"'), 401, '',
                ['WWW-Authenticate' => 'Basic realm="my \"own\""'],
            ],
            'later' => [static fn () => throw Refused::later(30), 503, '', ['Retry-After' => '30']],
            'unknown' => [static fn () => throw new Refused(404), 404, '', []],
        ];
    }

    /** @dataProvider connects */
    public function testOnlyTrueLetsAClientIn(\Closure $decides, int $status, string $body, array $headers): void
    {
        $object = new class ($decides) {
            public function __construct(private readonly \Closure $decides)
            {
            }

            #[OnConnect]
            public function connect(): mixed
            {
                return ($this->decides)();
            }
        };
        $response = self::ask($object, 'connect', '"CP1"', ['x-client-id' => 'CP1']);
        self::assertSame([$status, $body], [$response->status, $response->body]);
        self::assertSame($status === 200 ? self::JSON : $headers, $response->headers);
    }

    public function testWithoutAMethodForItNobodyComesIn(): void
    {
        self::assertSame(403, self::ask(new \stdClass(), 'connect', '"CP1"')->status);
    }

    public function testOutcomesSendsAndEndsReachTheirMethods(): void
    {
        $object = new class {
            /** @var list<mixed> */
            public array $seen = [];

            #[OnResult('Reset')]
            public function reset(string $client, array $payload): void
            {
                $this->seen[] = ['reset', $client, $payload];
            }

            #[OnError]
            public function error(string $client, PushFailed $error): void
            {
                $this->seen[] = $error;
            }

            #[OnSend('NotifyPeriodicEventStream')]
            public function send(array $payload): void
            {
                $this->seen[] = ['send', $payload];
            }

            #[OnResultError]
            public function resultError(array $error): void
            {
                $this->seen[] = ['resulterror', $error['code']];
            }

            #[OnDisconnect]
            public function left(string $client, array $how): void
            {
                $this->seen[] = ['left', $client, $how['code']];
            }
        };
        foreach ([
            ['result/Reset/CP1/p1', '{"status":"Accepted"}', []],
            ['result/Other/CP1/p2', '{}', []],
            ['error/Reset/CP1/p3', '{"code":"NotSupported","description":"no","details":{"a":1}}', []],
            ['error/Reset/CP1/p4', '{"code":"Timeout","description":"late","details":{"sent":false}}', ['x-origin' => 'ws2api']],
            ['send/NotifyPeriodicEventStream/CP1/s1', '{"id":1}', []],
            ['resulterror/Heartbeat/CP1/1', '{"code":"FormatViolation","description":"","details":{}}', []],
            ['disconnect', '{"clientId":"CP1","connectionId":"x","code":1006,"reason":"","seconds":1}', ['x-client-id' => 'CP1']],
        ] as [$path, $body, $headers]) {
            self::assertEquals(new Response(204), self::ask($object, $path, $body, $headers), $path);
        }
        self::assertEquals([
            ['reset', 'CP1', ['status' => 'Accepted']],
            new ClientError('NotSupported', 'no', ['a' => 1]),
            new NoAnswer(NoAnswer::TIMEOUT, 'late', false),
            ['send', ['id' => 1]],
            ['resulterror', 'FormatViolation'],
            ['left', 'CP1', 1006],
        ], $object->seen);
    }

    public function testWhatComesAgainReachesItsMethodOnce(): void
    {
        $object = new class {
            public int $count = 0;
            public bool $fails = true;

            #[OnResult]
            public function result(): void
            {
                ++$this->count;
                if ($this->fails) {
                    throw new \RuntimeException('the database is away');
                }
            }
        };
        $cache = new MemoryCache();
        $router = (new Router(new CacheKeyStore($cache)))->add($object);
        $ask = static fn (string $key): int => $router->handle(
            Request::from('POST', '/result/Reset/CP1/p1', ['Idempotency-Key' => $key], '{}'),
        )->status;
        self::assertSame(500, $ask('k1'));
        $object->fails = false;
        self::assertSame([204, 204, 204], [$ask('k1'), $ask('k1'), $ask('k2')]);
        self::assertSame(3, $object->count);
        $cache->now = 121;
        self::assertSame(204, $ask('k1'));
        self::assertSame(4, $object->count);
    }

    public function testWhileTheFirstTryStillRunsTheNextOneIsPutOff(): void
    {
        $object = new class {
            public ?\Closure $meanwhile = null;

            #[OnResult]
            public function result(): void
            {
                ($this->meanwhile)();
            }
        };
        $router = (new Router(new CacheKeyStore(new MemoryCache())))->add($object);
        $request = Request::from('POST', '/result/Reset/CP1/p1', ['Idempotency-Key' => 'k'], '{}');
        $object->meanwhile = static function () use ($router, $request, &$second): void {
            $second = $router->handle($request);
        };
        self::assertSame(204, $router->handle($request)->status);
        self::assertEquals(new Response(503, ['Retry-After' => '1']), $second);
    }

    public function testAClientIsKnownFromEveryKindOfRequest(): void
    {
        foreach ([
            ['connect', '"CP 1"'],
            ['disconnect', '{"clientId":"CP 1","code":1000}'],
            ['call/A/CP%201/1', '{}'],
            ['start/CP%201', ''],
        ] as [$path, $body]) {
            self::assertSame('CP 1', Request::from('POST', "/$path", [], $body)->clientId(), $path);
            self::assertSame('B+ü', Request::from('POST', "/$path", ['X-Client-Id' => 'B%2B%C3%BC'], $body)->clientId());
        }
    }

    public function testOtherPathsAreNotOurs(): void
    {
        self::assertNull(self::ask(new \stdClass(), 'start/CP1'));
        self::assertNull(self::ask(new \stdClass(), ''));
        self::assertSame(405, (new Router())->handle(Request::from('GET', '/connect', [], ''))->status);
    }

    public function testAPrefixIsTakenOff(): void
    {
        $request = Request::from('POST', '/api/v1/call/A%2Fb/CP1/1?x=y', [], '{}', '/api/v1');
        self::assertSame(['call', 'A/b', 'CP1', '1'], [$request->kind, ...$request->names]);
    }

    private static function ask(object $object, string $path, string $body = '{}', array $headers = []): ?Response
    {
        return (new Router())->add($object)->handle(Request::from('POST', "/$path", $headers, $body));
    }
}
