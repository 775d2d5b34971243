<?php

// The charging backend as a RoadRunner worker: started once, then a request after the other. .rr.yaml has how to start it.

declare(strict_types=1);

use Nyholm\Psr7\Factory\Psr17Factory;
use Nyholm\Psr7\Response;
use Spiral\RoadRunner\Http\PSR7Worker;
use Spiral\RoadRunner\Worker;
use Ws2Api\Handler;

require __DIR__ . '/vendor/autoload.php';
require __DIR__ . '/../app/charging.php';

$charging = Charging::fromEnvironment();
$factory = new Psr17Factory();
$handler = new Handler($charging->router(), $factory, $factory, $charging->own(...));
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
        $worker->respond($handler->handle($request));
    } catch (\Throwable $error) {
        // What ws2api asks is answered by the library, whatever happens; this is about our own API.
        error_log((string) $error);
        $worker->respond(new Response(500));
    }
}
