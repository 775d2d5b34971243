<?php

// The charging back end as a RoadRunner worker: started once, then a request after the other. .rr.yaml has how to start it.

declare(strict_types=1);

use Nyholm\Psr7\Factory\Psr17Factory;
use Nyholm\Psr7\Response;
use Spiral\RoadRunner\Http\PSR7Worker;
use Spiral\RoadRunner\Worker;

require __DIR__ . '/vendor/autoload.php';
require __DIR__ . '/../app/charging.php';

$charging = Charging::fromEnvironment();
$factory = new Psr17Factory();
$worker = new PSR7Worker(Worker::create(), $factory, $factory, $factory);

while (true) {
    try {
        $request = $worker->waitRequest();
    } catch (\Throwable) {
        $worker->respond(new Response(400));
        continue;
    }
    if ($request === null) {
        break;
    }
    try {
        $headers = array_map(static fn (array $values): string => implode(', ', $values), $request->getHeaders());
        [$status, $headers, $body] = $charging->handle(
            $request->getUri()->getPath(),
            array_change_key_case($headers),
            (string) $request->getBody(),
        );
        $worker->respond(new Response($status, $headers, $body));
    } catch (\Throwable $error) {
        // The client gets this description, so it says nothing of the inside.
        $body = '{"code":"InternalError","description":"see the log","details":{}}';
        $worker->respond(new Response(500, ['Content-Type' => 'application/json'], $body));
        error_log((string) $error);
    }
}
