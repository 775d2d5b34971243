<?php

// A backend for ws2api as a RoadRunner worker. composer require spiral/roadrunner-http nyholm/psr7

declare(strict_types=1);

use Nyholm\Psr7\Factory\Psr17Factory;
use Nyholm\Psr7\Response;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Spiral\RoadRunner\Http\PSR7Worker;
use Spiral\RoadRunner\Worker;

require __DIR__ . '/vendor/autoload.php';

function json(int $status, mixed $body): ResponseInterface
{
    $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION;
    return new Response($status, ['Content-Type' => 'application/json'], json_encode($body, $flags));
}

function handle(ServerRequestInterface $request): ResponseInterface
{
    $parts = array_map(rawurldecode(...), explode('/', ltrim($request->getUri()->getPath(), '/')));
    [$kind, $action, $client, $messageId] = $parts + ['', '', '', ''];
    $payload = json_decode((string) $request->getBody(), true);

    return match ($kind) {
        'connect' => json(200, 'ok'),
        'call' => match ($action) {
            'BootNotification' => json(200, [
                'currentTime' => gmdate('Y-m-d\TH:i:s\Z'),
                'interval' => 300,
                'status' => 'Accepted',
            ]),
            'Heartbeat' => json(200, ['currentTime' => gmdate('Y-m-d\TH:i:s\Z')]),
            // Answered later, by a queue's worker: POST /result/GetReport/<ClientId>/<MessageId> at the ingress.
            'GetReport' => new Response(202, ['X-Deferred' => '1']),
            default => new Response(404),
        },
        default => new Response(204),
    };
}

$factory = new Psr17Factory();
$worker = new PSR7Worker(Worker::create(), $factory, $factory, $factory);

while (true) {
    try {
        $request = $worker->waitRequest();
        if ($request === null) {
            break;
        }
    } catch (\Throwable) {
        $worker->respond(new Response(400));
        continue;
    }
    try {
        $worker->respond(handle($request));
    } catch (\Throwable $error) {
        // The client gets this description, so it says nothing of the inside.
        $worker->respond(json(500, ['code' => 'InternalError', 'description' => 'see the log', 'details' => (object) []]));
        file_put_contents('php://stderr', $error . PHP_EOL);
    }
}
