<?php

// The charging backend under `php -S` and under PHP-FPM. For php -S:
//
//   PHP_CLI_SERVER_WORKERS=16 php -S 127.0.0.1:5000 examples/app/index.php
//   target/release/ws2api --config config/ws2api.toml --cores 0

declare(strict_types=1);

use Ws2Api\Sapi;

require __DIR__ . '/../../php/autoload.php';
require __DIR__ . '/charging.php';

$charging = Charging::fromEnvironment();
Sapi::serve($charging->router(), $charging->own(...));
