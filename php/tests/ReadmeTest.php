<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use PHPUnit\Framework\TestCase;
use Ws2Api\Connection;
use Ws2Api\Ingress;
use Ws2Api\IngressUnreachable;
use Ws2Api\Push;
use Ws2Api\Request;
use Ws2Api\Response;
use Ws2Api\Router;

/** What the README shows is what happens. */
final class ReadmeTest extends TestCase
{
    private static string $text;

    public static function setUpBeforeClass(): void
    {
        self::$text = file_get_contents(__DIR__ . '/../README.md');
    }

    public function testTheBackendIsOfThirtyLinesAndAnswersAsWritten(): void
    {
        $code = self::block('php', 'backend.php');
        self::assertLessThanOrEqual(31, substr_count($code, "\n"));
        $folder = sys_get_temp_dir() . '/ws2api-readme-' . bin2hex(random_bytes(8));
        mkdir($folder);
        $library = var_export(realpath(__DIR__ . '/../autoload.php'), true);
        $code = str_replace("__DIR__ . '/vendor/autoload.php'", $library, $code, $count);
        self::assertSame(1, $count);
        file_put_contents("$folder/backend.php", $code);
        $port = ScriptedServer::freePort();
        $ingress = ScriptedServer::start(["HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"status\":\"Accepted\"}"]);
        // Its keys are its own.
        $environment = ['TMPDIR' => $folder, 'WS2API_INGRESS' => $ingress->url];
        $server = proc_open([PHP_BINARY, '-S', "127.0.0.1:$port", "$folder/backend.php"], [2 => ['file', "$folder/log", 'w']], $pipes, null, $environment);
        try {
            $connection = new Connection("http://127.0.0.1:$port");
            self::awaitServer($connection);
            $count = 0;
            foreach (self::exchanges() as [$line, $body, $status, $expected]) {
                $client = preg_match('~^POST /\w+/\w+/(\w+)/~', $line, $match) ? $match[1] : trim((string) (json_decode($body)->clientId ?? json_decode($body)), '"');
                [$method, $path] = explode(' ', $line);
                $headers = ['X-Client-Id' => $client, 'X-Subprotocol' => 'ocpp1.6', 'Idempotency-Key' => "k$count"];
                if (str_contains($body, '"Timeout"')) {
                    $headers['X-Origin'] = 'ws2api';
                }
                $response = $connection->request($method, $path, $headers, $body, 30);
                self::assertSame($status, $response->status, $line);
                self::assertMatchesRegularExpression('~^' . str_replace('…', '[^"]+', preg_quote($expected, '~')) . '$~u', $response->body, $line);
                ++$count;
            }
            self::assertSame(10, $count);
            self::assertSame(1, preg_match('~^    \$ curl -d \'\' http://127.0.0.1:5000(/\S+)\n    (.+)$~m', self::$text, $own));
            $answer = $connection->request('POST', $own[1], [], '', 30);
            self::assertSame([200, $own[2]], [$answer->status, $answer->body]);
            self::assertStringStartsWith('POST /call/ClearCache/CP1/', $ingress->requests(1)[0]['text']);
            $log = file_get_contents("$folder/log");
            self::assertStringContainsString('CP1: {"status":"Accepted"}', $log);
            self::assertStringContainsString('CP1: no answer (Timeout): the client did not answer in time', $log);
            self::assertStringContainsString('CP1 left with 1006', $log);
        } finally {
            proc_terminate($server, 9);
            proc_close($server);
            array_map(unlink(...), [...glob("$folder/ws2api-keys/*"), ...glob("$folder/*.php"), "$folder/log"]);
            @rmdir("$folder/ws2api-keys");
            rmdir($folder);
        }
    }

    public function testEveryEndOfAPushIsCaught(): void
    {
        eval('namespace Ws2Api\Tests\Readme;' . self::block('php', 'function reset'));
        $error = static fn (int $status, array $headers = []): Response => new Response($status, $headers, '{"error":"why"}');
        $none = static fn (string $code, bool $sent): Response => Response::json(502, ['code' => $code, 'details' => ['sent' => $sent]]);
        foreach ([
            'Accepted' => new Response(200, [], '{"status":"Accepted"}'),
            'it says NotSupported' => new Response(422, [], '{"code":"NotSupported","description":"","details":{}}'),
            'it may have done it' => $none('Disconnected', true),
            'it has never seen it' => $none('Shutdown', false),
            'it is not connected' => $error(404),
            'try again in 3 s' => $error(429, ['Retry-After' => '3']),
            'refused: why' => $error(409),
            'ws2api broke off' => new IngressUnreachable('', true),
            'ws2api is not there' => new IngressUnreachable('', false),
        ] as $word => $answer) {
            $push = new Push(new Ingress('http://unused', '', new ScriptedTransport($answer)));
            self::assertSame($word, Readme\reset($push, 'CP1'));
        }
    }

    public function testADeferredCallIsAnsweredByAnotherProcess(): void
    {
        $file = sys_get_temp_dir() . '/ws2api-ticket-' . bin2hex(random_bytes(8));
        $code = str_replace("'/tmp/ticket'", var_export($file, true), self::block('php', 'class Slowly'), $count);
        self::assertSame(2, $count);
        eval('namespace Ws2Api\Tests\Readme;' . $code);
        $router = (new Router())->add(new Readme\Slowly());
        $response = $router->handle(Request::from('POST', '/call/DataTransfer/CP1/m1', [], '{}'));
        self::assertEquals(new Response(202, ['X-Deferred' => '1']), $response);
        $transport = new ScriptedTransport(new Response(204));
        Readme\later(new Ingress('http://unused', '', $transport));
        self::assertSame(['POST', '/result/DataTransfer/CP1/m1', '{"status":"Accepted"}'], [
            $transport->requests[0][0], $transport->requests[0][1], $transport->requests[0][3],
        ]);
        unlink($file);
    }

    public function testEveryAttributeIsInItsTable(): void
    {
        $files = glob(__DIR__ . '/../src/Attribute/*.php');
        self::assertCount(7, $files);
        foreach ($files as $file) {
            self::assertStringContainsString('#[' . basename($file, '.php'), self::$text);
        }
    }

    /** @return iterable<array{string, string, int, string}> request line, body, status, body */
    private static function exchanges(): iterable
    {
        foreach (array_chunk(explode("\n", trim(self::block('http', '> POST'))), 2) as [$request, $answer]) {
            self::assertSame(1, preg_match('~^> (POST \S+) (.+)$~', $request, $asked), $request);
            self::assertSame(1, preg_match('~^< (\d{3}) ?(.*)$~', $answer, $got), $answer);
            yield [$asked[1], $asked[2], (int) $got[1], $got[2]];
        }
    }

    private static function block(string $language, string $with): string
    {
        preg_match_all("~^```$language\n(.*?)^```$~ms", self::$text, $blocks);
        foreach ($blocks[1] as $block) {
            if (str_contains($block, $with)) {
                return $block;
            }
        }
        self::fail("no block of $language with $with");
    }

    private static function awaitServer(Connection $connection): void
    {
        $deadline = microtime(true) + 30;
        while (true) {
            try {
                $connection->request('POST', '/connect', [], '"x"', 5);
                return;
            } catch (IngressUnreachable $error) {
                if (microtime(true) > $deadline) {
                    throw $error;
                }
                usleep(10_000);
            }
        }
    }
}
