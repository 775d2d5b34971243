<?php

declare(strict_types=1);

namespace Ws2Api;

/** One request under PHP-FPM, `php -S`, or another server that fills `$_SERVER`. */
final class Sapi
{
    /** @param \Closure(Request): Response|null $others answers what is not a path of ws2api's; otherwise that is 404 */
    public static function serve(Router $router, ?\Closure $others = null): void
    {
        $request = self::request($router->prefix);
        $response = $router->handle($request) ?? ($others === null ? null : $others($request)) ?? new Response(404);
        http_response_code($response->status);
        foreach ($response->headers as $name => $value) {
            header("$name: $value");
        }
        if (!isset($response->headers['Content-Type'])) {
            header_remove('Content-Type');
            ini_set('default_mimetype', '');
        }
        echo $response->body;
    }

    public static function request(string $prefix = ''): Request
    {
        $headers = [];
        foreach ($_SERVER as $name => $value) {
            if (str_starts_with($name, 'HTTP_')) {
                $headers[strtolower(strtr(substr($name, 5), '_', '-'))] = (string) $value;
            }
        }
        // REQUEST_URI, not PATH_INFO: that one is decoded already.
        $body = (string) file_get_contents('php://input');
        return Request::from($_SERVER['REQUEST_METHOD'], $_SERVER['REQUEST_URI'], $headers, $body, $prefix);
    }
}
