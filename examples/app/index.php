<?php

// The charging back end under `php -S` and under PHP-FPM. For php -S:
//
//   PHP_CLI_SERVER_WORKERS=8 php -S 127.0.0.1:5000 examples/app/index.php
//   target/release/ws2api --config config/ws2api.toml

declare(strict_types=1);

require __DIR__ . '/charging.php';

$headers = [];
foreach ($_SERVER as $name => $value) {
    if (str_starts_with($name, 'HTTP_')) {
        $headers[strtolower(strtr(substr($name, 5), '_', '-'))] = $value;
    }
}
// REQUEST_URI, not PATH_INFO: that one is decoded already.
[$status, $headers, $body] = Charging::fromEnvironment()->handle(
    $_SERVER['REQUEST_URI'],
    $headers,
    file_get_contents('php://input'),
);
http_response_code($status);
foreach ($headers as $name => $value) {
    header("$name: $value");
}
echo $body;
